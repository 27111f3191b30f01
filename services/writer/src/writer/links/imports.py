"""Very many links in one request, as CSV or JSONL: COPY, and an answer that names what failed."""

import asyncio
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
from shortcore.links.rows import MAX_ROW, Format, Row, UnreadableError, read_lines
from shortcore.runtime.turns import Turn
from writer.http import idempotency
from writer.http.idempotency import IdempotentRequest, StoredResponse
from writer.http.problems import MAX_ERRORS_OF_MANY, invalid, problem_of
from writer.links.batch import BatchService, claim_code
from writer.links.creation import Draft, chosen
from writer.links.passwords import MAX_PER_BATCH
from writer.links.schemas import ImportAnswer, ImportFailure
from writer.links.service import LinkService

MAX_ROWS: Final = 10_000
"""Rows of one request; its bytes are bounded by `body_max_bytes`, and so is the memory."""

_DECODED = 2000  # plain rows (a tenth of a µs each) for the same
_AT_ONCE = 2000  # rows of one COPY
_MS_A_ROW = 1

_Numbered = tuple[int, ShortlinksError]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A row that is a target, perhaps with a code, and no more: nearly all of a large import."""

    target: str
    code: str | None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


@dataclass(slots=True)
class _Read:
    """What a body holds: drafts with their lines, the rows that failed, and how many there are."""

    drafts: list[Draft] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    failed: list[_Numbered] = field(default_factory=list)
    rows: int = 0

    def add(self, line: int, draft: Draft, codes: set[tuple[int, str]]) -> None:
        """Take a draft; raises CodeTaken when its code is among `codes`, those of rows before."""
        if draft.code is not None:
            claim_code(draft, codes)
        self.drafts.append(draft)
        self.lines.append(line)

    def fail(self, line: int, error: ShortlinksError) -> None:
        """Take a row that failed."""
        # Its traceback holds the reader's frame, and so the whole body beyond the answer.
        self.failed.append((line, error.with_traceback(None)))


class ImportService:
    """Creates the links of a file, or of a part of one."""

    def __init__(self, links: LinkService, batches: BatchService) -> None:
        self._links = links
        self._batches = batches

    async def create(
        self, body: bytes, form: Format, idempotent: IdempotentRequest | None
    ) -> StoredResponse:
        """Create every link that can be created, in one transaction.

        Raises MalformedRequest for what is no such file, InvalidInput for too many rows.
        """
        if (
            idempotent is not None
            and (earlier := await self._links.earlier(idempotent)) is not None
        ):
            return earlier
        read = await self._read(body, form)
        try:
            answer, created = await self._place(read, idempotent)
        except asyncpg.ForeignKeyViolationError:
            detail = "A domain of these links was just removed."
            raise invalid([FieldError("/domain", "unknown", detail)]) from None
        await self._links.creator.publish_unseen(created)
        return answer

    async def _read(self, body: bytes, form: Format) -> _Read:
        if form is Format.JSONL and (plain := await _plain_rows(body)) is not None:
            return await self._read_plain(plain)
        found = _Read()
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
                found.rows += 1
                passwords += "password" in row.item
                if found.rows > MAX_ROWS:
                    raise _too_many("rows", MAX_ROWS)
                if passwords > MAX_PER_BATCH:
                    raise _too_many("links with a password", MAX_PER_BATCH)
                try:
                    found.add(row.line, await self._draft(row), codes)
                except (InvalidInput, CodeTaken) as error:
                    found.fail(row.line, error)
        except UnreadableError as error:
            raise MalformedRequest(str(error)) from None
        return found

    async def _read_plain(self, rows: Sequence[_Plain]) -> _Read:
        found = _Read(rows=len(rows))
        codes: set[tuple[int, str]] = set()
        plain = self._links.plain_target
        turn = Turn()
        for line, row in enumerate(rows, 1):
            if turn.over:
                await turn.give_way()
            try:
                draft = plain(row.target, row.code)
                if draft is None:
                    draft = await self._batches.draft(msgspec.structs.asdict(row), "")
                found.add(line, draft, codes)
            except (InvalidInput, CodeTaken) as error:
                found.fail(line, error)
        return found

    async def _draft(self, row: Row) -> Draft:
        if row.faults:
            raise invalid(
                [FieldError(_pointer(each.field), each.rule, each.detail) for each in row.faults]
            )
        return self._links.plain(row.item) or await self._batches.draft(row.item, "")

    async def _place(
        self, read: _Read, idempotent: IdempotentRequest | None
    ) -> tuple[StoredResponse, int]:
        links = self._links
        timeout_ms = links.settings.postgres_write_timeout_ms + _MS_A_ROW * read.rows
        failed = read.failed
        async with (
            links.publisher.preannounced(chosen(read.drafts)),
            links.postgres.connection(timeout_ms) as connection,
            connection.transaction(),
        ):
            if idempotent is not None:
                earlier = await links.claim(connection, idempotent)
                if earlier is not None:
                    return earlier, 0
            # In one order throughout: two imports that name the same codes would wait for each
            # other otherwise.
            ordered = sorted(zip(read.drafts, read.lines, strict=True), key=_place_of)
            for at in range(0, len(ordered), _AT_ONCE):
                part = ordered[at : at + _AT_ONCE]
                placed = await links.creator.place_unseen(connection, [draft for draft, _ in part])
                failed += [
                    (line, error)
                    for (_, line), error in zip(part, placed, strict=True)
                    if error is not None
                ]
            created = read.rows - len(failed)
            failed.sort(key=lambda one: one[0])
            view = ImportAnswer(read.rows, created, await _failures(failed))
            answer = StoredResponse(200, {}, msgspec.json.encode(view))
            if idempotent is not None:
                await idempotency.store(connection, idempotent, answer)
        return answer, created


async def _failures(failed: Sequence[_Numbered]) -> list[ImportFailure]:
    failures = []
    turn = Turn()
    for line, error in failed:
        if turn.over:
            await turn.give_way()
        problem = problem_of(error, max_errors=MAX_ERRORS_OF_MANY)
        failures.append(ImportFailure(line, problem))
    return failures


async def _plain_rows(body: bytes) -> list[_Plain] | None:
    """Return the rows of JSONL if all of them are plain, and their lines come without a gap.

    None says nothing: `read_rows` then finds out what is the matter, and where.
    """
    lines = body.split(b"\n", MAX_ROWS + 1)
    if not lines[-1]:
        lines.pop()  # what comes after the last line feed is no line
    if len(lines) > MAX_ROWS or max(map(len, lines), default=0) > MAX_ROW:
        return None
    rows: list[_Plain] = []
    try:
        for at in range(0, len(lines), _DECODED):
            rows += map(_decode_plain, lines[at : at + _DECODED])
            await asyncio.sleep(0)
    # Recursion: as the decoder says that a value lies too deep.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return rows


def _pointer(name: str) -> str:
    return f"/{name}" if name else ""  # the row as a whole (RFC 6901, section 5)


def _place_of(row: tuple[Draft, int]) -> tuple[int, str]:
    draft, _ = row
    return draft.domain.id, draft.code or ""


def _too_many(what: str, most: int) -> InvalidInput:
    detail = f"One request imports {most} {what} at the most; send several."
    return invalid([FieldError("", "length", detail)])
