"""Runs the transactions that create links; pre-announces and publishes these links."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg

from shortcore.errors import FieldError, InvalidInput, ShortlinksError
from shortcore.links.record import LinkKey, link_key
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.postgres import Connection, Postgres
from writer.links.drafts import Draft
from writer.links.placement import Placed, Placement
from writer.links.stored import StoredLink
from writer.relay.publisher import Publisher
from writer.storage.batching import Batcher

_MAX_BATCH = 100
_MAX_WAITING = 5000
_IN_FLIGHT = 3
"""Transactions at a time: while one commits and one publishes, the next one is sent."""

_MAX_PUBLISHED = 100


class Creation:
    """One open transaction that creates links."""

    def __init__(self, connection: Connection, placement: Placement) -> None:
        self.connection = connection
        self.links: list[StoredLink] = []
        """The created links, for the publication after the commit."""
        self.unread = 0
        """The number of other created links."""
        self._placement = placement

    async def place(self, drafts: Sequence[Draft]) -> list[Placed]:
        """Insert `drafts` as Placement.place does."""
        placed = await self._placement.place(self.connection, drafts)
        self.links += (each for each in placed if isinstance(each, StoredLink))
        return placed

    async def place_unread(self, drafts: Sequence[Draft]) -> list[ShortlinksError | None]:
        """Insert `drafts` as Placement.place_unread does."""
        errors = await self._placement.place_unread(self.connection, drafts)
        self.unread += errors.count(None)
        return errors


class Creator:
    """Creates links: pre-announces custom codes, commits, and publishes what was created."""

    def __init__(
        self, postgres: Postgres, placement: Placement, publisher: Publisher, timeout_ms: int
    ) -> None:
        self.created_total = 0
        self._postgres = postgres
        self._placement = placement
        self._publisher = publisher
        self._timeout_ms = timeout_ms
        self._batcher: Batcher[Draft, StoredLink] = Batcher(
            self._create_many, max_items=_MAX_BATCH, max_waiting=_MAX_WAITING, in_flight=_IN_FLIGHT
        )

    def export(self, source: FromMemory) -> None:
        """Add the metrics to `/metrics`."""
        source.counter("shortlinks_links_created", "Links created.", lambda: self.created_total)

    async def create(self, draft: Draft) -> StoredLink:
        """Create one link, in one transaction with others that are created at the same time.

        Raises CodeTaken, InvalidInput, Unavailable.
        """
        if draft.code is None:
            return await self._batcher.submit(draft)
        async with self._publisher.preannounced(custom_keys([draft])):
            return await self._batcher.submit(draft)

    @contextlib.asynccontextmanager
    async def transaction(
        self, drafts: Sequence[Draft], timeout_ms: int | None = None
    ) -> AsyncIterator[Creation]:
        """Open a transaction in which the block may create some or all of `drafts`.

        Publishes the created links after the commit. By default, `timeout_ms` is the timeout of
        writes. Raises DatabaseUnavailable.
        """
        began_ms = self._publisher.moment()
        async with (
            self._publisher.preannounced(custom_keys(drafts)),
            self._postgres.connection(timeout_ms or self._timeout_ms) as connection,
            connection.transaction(),
        ):
            creation = Creation(connection, self._placement)
            yield creation
        await self._publish(creation.links, creation.unread, began_ms)

    async def _create_many(self, drafts: Sequence[Draft]) -> list[Placed]:
        began_ms = self._publisher.moment()
        try:
            # A single statement is a transaction: BEGIN and COMMIT would be two more round trips.
            async with self._postgres.connection(self._timeout_ms) as connection:
                placed = await self._placement.place(connection, drafts)
        except asyncpg.ForeignKeyViolationError:
            if len(drafts) == 1:
                return [domain_removed(drafts[0])]
        else:
            links = [each for each in placed if isinstance(each, StoredLink)]
            await self._publish(links, 0, began_ms)
            return placed
        # One draft names a domain that was just removed; only that request must fail.
        return [(await self._create_many([draft]))[0] for draft in drafts]

    async def _publish(self, links: Sequence[StoredLink], unread: int, began_ms: int) -> None:
        created = len(links) + unread
        if not created:
            return
        self.created_total += created
        # More links would take longer than a response may wait, and the relay, which is notified
        # now, publishes them anyway.
        published = links if len(links) <= _MAX_PUBLISHED else ()
        await self._publisher.publish_new([(link.key, link.record) for link in published], began_ms)


def custom_keys(drafts: Iterable[Draft]) -> list[LinkKey]:
    """Return the keys of the drafts with a custom code."""
    return [link_key(each.domain.host, each.code) for each in drafts if each.code is not None]


def domain_removed(draft: Draft) -> InvalidInput:
    """Return the error of a draft whose domain was removed since the draft was made."""
    detail = f"There is no domain {draft.domain.host}; see GET /api/v1/domains."
    return InvalidInput(detail, fields=[FieldError(f"{draft.at}/domain", "unknown", detail)])
