"""Imports: up to 10,000 links in one request, as CSV or JSONL. The response names failed rows."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import msgspec

from shortcore.errors import (
    CodeTaken,
    FieldError,
    InvalidInput,
    MalformedRequest,
    ShortlinksError,
)
from shortcore.links.rows import Format, Row, UnreadableError, read_lines
from shortcore.runtime.turns import Turn
from writer.http.idempotency import IdempotencyStore, IdempotentRequest, StoredResponse
from writer.http.problems import MAX_ERRORS_OF_MANY, invalid, problem_of
from writer.links.batch import claim_code
from writer.links.creation import Creator
from writer.links.drafts import Draft, Drafter
from writer.links.passwords import MAX_PER_BATCH
from writer.links.schemas import ImportAnswer, ImportFailure

MAX_ROWS: Final = 10_000
"""Rows of one request; `body_max_bytes` bounds its size and so the memory."""

_COPY_ROWS = 2000
"""Rows of one COPY."""

_MS_PER_ROW = 1
"""Added to the timeout of the transaction for each row."""

_Numbered = tuple[int, ShortlinksError]
"""An error with the line of its row."""


@dataclass(slots=True)
class _Read:
    """What was read from a body: drafts with their lines, failed rows, and the number of rows."""

    drafts: list[Draft] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    failed: list[_Numbered] = field(default_factory=list)
    rows: int = 0

    def fail(self, line: int, error: ShortlinksError) -> None:
        """Add a row that failed."""
        # Its traceback would keep the reader's frame, and so the whole body, alive.
        self.failed.append((line, error.with_traceback(None)))


class ImportService:
    """Creates the links of a file, or of a part of a file."""

    def __init__(
        self,
        drafter: Drafter,
        creator: Creator,
        idempotency: IdempotencyStore,
        *,
        timeout_ms: int,
    ) -> None:
        self._drafter = drafter
        self._creator = creator
        self._idempotency = idempotency
        self._timeout_ms = timeout_ms

    async def create(
        self, body: bytes, form: Format, request: IdempotentRequest | None
    ) -> StoredResponse:
        """Create every link that can be created, in one transaction.

        Raises MalformedRequest for an unreadable file, and InvalidInput for too many rows.
        """
        if (earlier := await self._idempotency.earlier(request)) is not None:
            return earlier
        read = await self._read(body, form)
        try:
            return await self._create(read, request)
        except asyncpg.ForeignKeyViolationError:
            detail = "A domain of these links was just removed."
            raise invalid([FieldError("/domain", "unknown", detail)]) from None

    async def _read(self, body: bytes, form: Format) -> _Read:
        read = _Read()
        codes: set[tuple[int, str]] = set()
        passwords = blank = 0
        turn = Turn()
        try:
            for row in read_lines(io.BytesIO(body), form):
                if turn.over:
                    await turn.give_way()
                if row is None:
                    blank += 1
                    if blank > MAX_ROWS:
                        raise _too_many("blank lines", MAX_ROWS)
                    continue
                read.rows += 1
                passwords += "password" in row.item
                if read.rows > MAX_ROWS:
                    raise _too_many("rows", MAX_ROWS)
                if passwords > MAX_PER_BATCH:
                    raise _too_many("links with a password", MAX_PER_BATCH)
                try:
                    plain = None if row.faults else self._drafter.plain(row.item)
                    draft = plain or await self._draft(row)
                    claim_code(draft, codes)
                    read.drafts.append(draft)
                    read.lines.append(row.line)
                except (InvalidInput, CodeTaken) as error:
                    read.fail(row.line, error)
        except UnreadableError as error:
            raise MalformedRequest(str(error)) from None
        return read

    async def _draft(self, row: Row) -> Draft:
        if row.faults:
            raise invalid(
                [FieldError(_pointer(each.field), each.rule, each.detail) for each in row.faults]
            )
        return await self._drafter.draft_item(row.item)

    async def _create(self, read: _Read, request: IdempotentRequest | None) -> StoredResponse:
        timeout_ms = self._timeout_ms + _MS_PER_ROW * read.rows
        failed = read.failed
        async with self._creator.transaction(read.drafts, timeout_ms) as creation:
            if (earlier := await self._idempotency.claim(creation.connection, request)) is not None:
                return earlier
            # Every import inserts in the same order: two imports with the same codes in different
            # orders would deadlock.
            ordered = sorted(zip(read.drafts, read.lines, strict=True), key=_place_of)
            for at in range(0, len(ordered), _COPY_ROWS):
                part = ordered[at : at + _COPY_ROWS]
                errors = await creation.place_unread([draft for draft, _ in part])
                failed += [
                    (line, error)
                    for (_, line), error in zip(part, errors, strict=True)
                    if error is not None
                ]
            failed.sort(key=lambda one: one[0])
            view = ImportAnswer(read.rows, read.rows - len(failed), await _failures(failed))
            response = StoredResponse(200, {}, msgspec.json.encode(view))
            await self._idempotency.store(creation.connection, request, response)
        return response


async def _failures(failed: Sequence[_Numbered]) -> list[ImportFailure]:
    failures = []
    turn = Turn()
    for line, error in failed:
        if turn.over:
            await turn.give_way()
        problem = problem_of(error, max_errors=MAX_ERRORS_OF_MANY)
        failures.append(ImportFailure(line, problem))
    return failures


def _pointer(name: str) -> str:
    return f"/{name}" if name else ""  # "" is the whole row (RFC 6901, section 5)


def _place_of(row: tuple[Draft, int]) -> tuple[int, str]:
    draft, _ = row
    return draft.domain.id, draft.code or ""


def _too_many(what: str, most: int) -> InvalidInput:
    detail = f"One request imports at most {most} {what}; send several requests."
    return invalid([FieldError("", "length", detail)])
