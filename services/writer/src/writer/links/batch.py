"""Many links in one request: one statement, a result for each item, or all or nothing."""

from collections.abc import Iterator, Sequence

import asyncpg
import msgspec
from pydantic import ValidationError

from shortcore.errors import (
    CodeTaken,
    FieldError,
    InvalidInput,
    ShortlinksError,
)
from shortcore.runtime.turns import Turn
from writer.http import idempotency
from writer.http.idempotency import IdempotentRequest, StoredResponse
from writer.http.problems import MAX_ERRORS_OF_MANY, error_of_validation, invalid, problem_of
from writer.links.creation import Draft, Placed, chosen
from writer.links.passwords import MAX_PER_BATCH
from writer.links.schemas import BatchAnswer, BatchLinks, BatchResult, CreateLink
from writer.links.service import LinkService
from writer.links.stored import StoredLink

Prepared = Draft | ShortlinksError


class BatchService:
    """Creates many links."""

    def __init__(self, links: LinkService, max_items: int) -> None:
        self._links = links
        self._max_items = max_items

    async def create(
        self, batch: BatchLinks, idempotent: IdempotentRequest | None
    ) -> StoredResponse:
        """Create what can be created, or nothing unless all can (`atomic`).

        Raises InvalidInput or CodeTaken whose fields name the items (`/items/3/code`) when
        `atomic` and one or more fail.
        """
        if (
            idempotent is not None
            and (earlier := await self._links.earlier(idempotent)) is not None
        ):
            return earlier
        self._check_size(batch)
        prepared = await self._prepare(batch)
        if batch.atomic:
            _raise_all([item for item in prepared if isinstance(item, ShortlinksError)])
        drafts = [item for item in prepared if isinstance(item, Draft)]
        began = self._links.publisher.moment()
        try:
            answer, created = await self._place(batch, prepared, drafts, idempotent)
        except asyncpg.ForeignKeyViolationError:
            raise invalid(
                [FieldError("/items", "unknown", "A domain of these links was just removed.")]
            ) from None
        await self._links.creator.publish(created, began)
        return answer

    async def _place(
        self,
        batch: BatchLinks,
        prepared: Sequence[Prepared],
        drafts: Sequence[Draft],
        idempotent: IdempotentRequest | None,
    ) -> tuple[StoredResponse, list[StoredLink]]:
        links = self._links
        timeout_ms = links.settings.postgres_write_timeout_ms
        async with (
            links.publisher.preannounced(chosen(drafts)),
            links.postgres.connection(timeout_ms) as connection,
            connection.transaction(),
        ):
            if idempotent is not None:
                earlier = await links.claim(connection, idempotent)
                if earlier is not None:
                    return earlier, []
            placed = await links.creator.place(connection, drafts) if drafts else []
            if batch.atomic:
                _raise_all([each for each in placed if isinstance(each, ShortlinksError)])
            queue: Iterator[Placed] = iter(placed)
            outcome = [
                item if isinstance(item, ShortlinksError) else next(queue) for item in prepared
            ]
            answer = StoredResponse(200, {}, msgspec.json.encode(await self._view(outcome)))
            if idempotent is not None:
                await idempotency.store(connection, idempotent, answer)
        return answer, [each for each in placed if isinstance(each, StoredLink)]

    def _check_size(self, batch: BatchLinks) -> None:
        if len(batch.items) > self._max_items:
            detail = f"A batch holds {self._max_items} links at the most; send several batches."
            raise invalid([FieldError("/items", "length", detail)])
        passwords = sum(isinstance(item, dict) and "password" in item for item in batch.items)
        if passwords > MAX_PER_BATCH:
            detail = f"A batch holds {MAX_PER_BATCH} links with a password at the most."
            raise invalid([FieldError("/items", "length", detail)])

    async def _prepare(self, batch: BatchLinks) -> list[Prepared]:
        prepared: list[Prepared] = []
        codes: set[tuple[int, str]] = set()
        turn = Turn()
        for index, item in enumerate(batch.items):
            if turn.over:
                await turn.give_way()
            at = f"/items/{index}"
            try:
                draft = self._links.plain(item, at) or await self.draft(item, at)
                if draft.code is not None:
                    claim_code(draft, codes)
                prepared.append(draft)
            except (InvalidInput, CodeTaken) as error:
                # Its traceback holds this frame, and so all items beyond the answer.
                prepared.append(error.with_traceback(None))
        return prepared

    async def draft(self, item: object, at: str) -> Draft:
        """Check one item, which lies at the pointer `at`; raises InvalidInput."""
        try:
            link = CreateLink.model_validate(item)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise error_of_validation(map(dict, found), at) from None
        if link.find_if_exists:
            detail = "Many links at once are created, never looked for: leave this out."
            raise invalid([FieldError(f"{at}/find_if_exists", "conflict", detail)])
        return await self._links.draft(link, at)

    async def _view(self, outcome: Sequence[Placed]) -> BatchAnswer:
        views = self._links.views(each for each in outcome if isinstance(each, StoredLink))
        results = []
        turn = Turn()
        for each in outcome:
            if turn.over:
                await turn.give_way()
            if isinstance(each, ShortlinksError):
                problem = problem_of(each, max_errors=MAX_ERRORS_OF_MANY)
                results.append(BatchResult(each.status, None, problem))
            else:
                results.append(BatchResult(201, next(views)))
        return BatchAnswer(results)


def claim_code(draft: Draft, codes: set[tuple[int, str]]) -> None:
    """Note the code that `draft` wants in `codes`; raises CodeTaken when it is there already."""
    code = (draft.domain.id, draft.code or "")
    if code in codes:
        detail = f"The code {draft.code} is taken by an item before this one."
        raise CodeTaken(detail, fields=[FieldError(f"{draft.at}/code", "taken", detail)])
    codes.add(code)


def _raise_all(errors: Sequence[ShortlinksError]) -> None:
    """Raise one error that tells of all `errors`; a broken rule weighs more than a taken code."""
    if not errors:
        return
    fields = [field for error in errors for field in error.fields]
    detail = f"Nothing was created: {len(errors)} of the links cannot be; `errors` names each."
    if all(isinstance(error, CodeTaken) for error in errors):
        raise CodeTaken(detail, fields=fields)
    raise InvalidInput(detail, fields=fields)
