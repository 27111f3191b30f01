"""Batches: many links in one request, with a result for each, or all or nothing (`atomic`)."""

from collections.abc import Iterator, Sequence

import asyncpg
import msgspec

from shortcore.clock import Now
from shortcore.errors import CodeTaken, FieldError, InvalidInput, ShortlinksError
from shortcore.runtime.turns import Turn
from writer.http.idempotency import IdempotencyStore, IdempotentRequest, StoredResponse
from writer.http.problems import MAX_ERRORS_OF_MANY, invalid, problem_of
from writer.links.creation import Creator
from writer.links.drafts import Draft, Drafter
from writer.links.passwords import MAX_PER_BATCH
from writer.links.placement import Placed
from writer.links.schemas import BatchAnswer, BatchLinks, BatchResult, Presenter

Checked = Draft | ShortlinksError
"""An item that passed every rule, or the rule that it breaks."""


class BatchService:
    """Creates the links of a batch."""

    def __init__(
        self,
        drafter: Drafter,
        creator: Creator,
        idempotency: IdempotencyStore,
        presenter: Presenter,
        now: Now,
        *,
        max_items: int,
    ) -> None:
        self._drafter = drafter
        self._creator = creator
        self._idempotency = idempotency
        self._presenter = presenter
        self._now = now
        self._max_items = max_items

    async def create(self, batch: BatchLinks, request: IdempotentRequest | None) -> StoredResponse:
        """Create the links of `batch`. If it is `atomic` and a link fails, none is created.

        Raises InvalidInput or CodeTaken, whose fields name the items (`/items/3/code`), if it is
        `atomic` and an item fails.
        """
        if (earlier := await self._idempotency.earlier(request)) is not None:
            return earlier
        self._check_size(batch)
        checked = await self._check(batch)
        if batch.atomic:
            _raise_all([item for item in checked if isinstance(item, ShortlinksError)])
        try:
            return await self._create(batch, checked, request)
        except asyncpg.ForeignKeyViolationError:
            raise invalid(
                [FieldError("/items", "unknown", "A domain of these links was just removed.")]
            ) from None

    async def _create(
        self, batch: BatchLinks, checked: Sequence[Checked], request: IdempotentRequest | None
    ) -> StoredResponse:
        drafts = [item for item in checked if isinstance(item, Draft)]
        async with self._creator.transaction(drafts) as creation:
            if (earlier := await self._idempotency.claim(creation.connection, request)) is not None:
                return earlier
            placed = await creation.place(drafts) if drafts else []
            if batch.atomic:
                _raise_all([each for each in placed if isinstance(each, ShortlinksError)])
            queue: Iterator[Placed] = iter(placed)
            results = [
                item if isinstance(item, ShortlinksError) else next(queue) for item in checked
            ]
            response = StoredResponse(200, {}, msgspec.json.encode(await self._view(results)))
            await self._idempotency.store(creation.connection, request, response)
        return response

    def _check_size(self, batch: BatchLinks) -> None:
        if len(batch.items) > self._max_items:
            detail = f"A batch has at most {self._max_items} links; send several batches."
            raise invalid([FieldError("/items", "length", detail)])
        passwords = sum(isinstance(item, dict) and "password" in item for item in batch.items)
        if passwords > MAX_PER_BATCH:
            detail = f"A batch has at most {MAX_PER_BATCH} links with a password."
            raise invalid([FieldError("/items", "length", detail)])

    async def _check(self, batch: BatchLinks) -> list[Checked]:
        checked: list[Checked] = []
        codes: set[tuple[int, str]] = set()
        turn = Turn()
        for index, item in enumerate(batch.items):
            if turn.over:
                await turn.give_way()
            try:
                at = f"/items/{index}"
                draft = self._drafter.plain(item, at) or await self._drafter.draft_item(item, at)
                claim_code(draft, codes)
                checked.append(draft)
            except (InvalidInput, CodeTaken) as error:
                # Its traceback would keep this frame, and so every item, alive.
                checked.append(error.with_traceback(None))
        return checked

    async def _view(self, results: Sequence[Placed]) -> BatchAnswer:
        now = self._now()
        views = []
        turn = Turn()
        for result in results:
            if turn.over:
                await turn.give_way()
            if isinstance(result, ShortlinksError):
                problem = problem_of(result, max_errors=MAX_ERRORS_OF_MANY)
                views.append(BatchResult(result.status, None, problem))
            else:
                views.append(BatchResult(201, self._presenter.view(result, now)))
        return BatchAnswer(views)


def claim_code(draft: Draft, codes: set[tuple[int, str]]) -> None:
    """Add the custom code of `draft` to `codes`; raises CodeTaken if an earlier draft has it."""
    if draft.code is None:
        return
    code = (draft.domain.id, draft.code)
    if code in codes:
        detail = f"The code {draft.code} is taken by an earlier item."
        raise CodeTaken(detail, fields=[FieldError(f"{draft.at}/code", "taken", detail)])
    codes.add(code)


def _raise_all(errors: Sequence[ShortlinksError]) -> None:
    """Raise one error for all `errors`: InvalidInput, or CodeTaken if all of them are."""
    if not errors:
        return
    fields = [field for error in errors for field in error.fields]
    detail = f"Nothing was created: {len(errors)} of the links have errors; `errors` names each."
    if all(isinstance(error, CodeTaken) for error in errors):
        raise CodeTaken(detail, fields=fields)
    raise InvalidInput(detail, fields=fields)
