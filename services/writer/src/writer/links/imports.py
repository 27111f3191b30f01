"""Very many links in one request, as CSV or JSONL: COPY, and an answer that names what failed."""

import asyncio
import io
from collections.abc import Sequence
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
from shortcore.linkrows import Format, Row, UnreadableError, read_rows
from writer import idempotency
from writer.idempotency import Answer, Attempt
from writer.links.batch import BatchService, claim_code
from writer.links.creation import Draft, chosen
from writer.links.schemas import ImportAnswer, ImportFailure
from writer.links.service import LinkService
from writer.links.stored import StoredLink
from writer.passwords import MAX_PER_BATCH
from writer.problems import invalid, problem_of

MAX_ROWS: Final = 10_000
"""Rows of one request; its bytes are bounded by `body_max_bytes`, and so is the memory."""

_TURN = 200  # rows (about 5 ms) after which other requests have theirs
_AT_ONCE = 2000  # rows of one COPY
_MS_A_ROW = 1

_Numbered = tuple[int, ShortlinksError]


class ImportService:
    """Creates the links of a file, or of a part of one."""

    def __init__(self, links: LinkService, batches: BatchService) -> None:
        self._links = links
        self._batches = batches

    async def create(self, body: bytes, form: Format, attempt: Attempt | None) -> Answer:
        """Create every link that can be created, in one transaction.

        Raises MalformedRequest for what is no such file, InvalidInput for too many rows.
        """
        if attempt is not None and (earlier := await self._links.earlier(attempt)) is not None:
            return earlier
        drafts, lines, failed, rows = await self._read(body, form)
        began = self._links.announcer.moment()
        try:
            answer, created = await self._place(drafts, lines, failed, rows, attempt)
        except asyncpg.ForeignKeyViolationError:
            detail = "A domain of these links was just removed."
            raise invalid([FieldError("/domain", "unknown", detail)]) from None
        await self._links.creator.announce(created, began)
        return answer

    async def _read(
        self, body: bytes, form: Format
    ) -> tuple[list[Draft], list[int], list[_Numbered], int]:
        drafts: list[Draft] = []
        lines: list[int] = []
        failed: list[_Numbered] = []
        codes: set[tuple[int, str]] = set()
        number = passwords = 0
        try:
            for number, row in enumerate(read_rows(io.BytesIO(body), form), 1):
                passwords += "password" in row.item
                if number > MAX_ROWS or passwords > MAX_PER_BATCH:
                    raise _too_many(passwords)
                if number % _TURN == 0:
                    await asyncio.sleep(0)
                try:
                    draft = await self._draft(row)
                    if draft.code is not None:
                        claim_code(draft, codes)
                except (InvalidInput, CodeTaken) as error:
                    # Its traceback holds this frame, and so the whole body beyond the answer.
                    failed.append((row.line, error.with_traceback(None)))
                else:
                    drafts.append(draft)
                    lines.append(row.line)
        except UnreadableError as error:
            raise MalformedRequest(str(error)) from None
        return drafts, lines, failed, number

    async def _draft(self, row: Row) -> Draft:
        if row.faults:
            raise invalid(
                [FieldError(_pointer(each.field), each.rule, each.detail) for each in row.faults]
            )
        return self._links.plain(row.item) or await self._batches.draft(row.item, "")

    async def _place(
        self,
        drafts: Sequence[Draft],
        lines: Sequence[int],
        failed: list[_Numbered],
        rows: int,
        attempt: Attempt | None,
    ) -> tuple[Answer, list[StoredLink]]:
        links = self._links
        created: list[StoredLink] = []
        timeout_ms = links.settings.postgres_write_timeout_ms + _MS_A_ROW * rows
        async with (
            links.announcer.foretold(chosen(drafts)),
            links.postgres.connection(timeout_ms) as connection,
            connection.transaction(),
        ):
            if attempt is not None:
                earlier = await links.claim(connection, attempt)
                if earlier is not None:
                    return earlier, []
            # In one order throughout: two imports that name the same codes would wait for each
            # other otherwise.
            ordered = sorted(zip(drafts, lines, strict=True), key=_place_of)
            for at in range(0, len(ordered), _AT_ONCE):
                part = ordered[at : at + _AT_ONCE]
                placed = await links.creator.place(connection, [draft for draft, _ in part])
                for (_, line), each in zip(part, placed, strict=True):
                    if isinstance(each, ShortlinksError):
                        failed.append((line, each))
                    else:
                        created.append(each)
            failed.sort(key=lambda one: one[0])
            failures = [ImportFailure(line, problem_of(error)) for line, error in failed]
            view = ImportAnswer(rows, len(created), failures)
            answer = Answer(200, {}, msgspec.json.encode(view))
            if attempt is not None:
                await idempotency.store(connection, attempt, answer)
        return answer, created


def _pointer(field: str) -> str:
    return f"/{field}" if field else ""  # the row as a whole (RFC 6901, section 5)


def _place_of(row: tuple[Draft, int]) -> tuple[int, str]:
    draft, _ = row
    return draft.domain.id, draft.code or ""


def _too_many(passwords: int) -> InvalidInput:
    what, most = ("links with a password", MAX_PER_BATCH) if passwords > MAX_PER_BATCH else (
        "rows", MAX_ROWS)  # fmt: skip
    detail = f"One request imports {most} {what} at the most; send several."
    return invalid([FieldError("", "length", detail)])
