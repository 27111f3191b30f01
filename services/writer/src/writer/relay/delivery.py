"""Delivery: takes rows from the outbox, and sends their links to Redis and the change feed.

Claim rows, publish the records, append to the feed, delete the rows and commit, in this order: a
crash between any two steps repeats work, but loses no change.
"""

from collections import Counter
from collections.abc import Sequence

from shortcore.cache.change_feed import Change, ChangeFeed, entry_order
from shortcore.cache.store import CacheStore, Published
from shortcore.clock import unix_ms
from shortcore.errors import CacheUnavailable
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS
from writer.relay import outbox

_BULK_BATCH = 250
"""Links created in bulk that are published in one call, so that an edit waits for few of them."""


class Delivery:
    """Delivers one batch at a time.

    Every method raises DatabaseUnavailable or CacheUnavailable, having deleted nothing.
    """

    def __init__(
        self,
        postgres: Postgres,
        store: CacheStore,
        feed: ChangeFeed,
        *,
        batch_size: int,
        timeout_ms: int,
    ) -> None:
        self.published: Counter[str] = Counter(taken=0, older=0, expired=0)
        self.batches = 0
        self.bulk_links = 0
        self._postgres = postgres
        self._store = store
        self._feed = feed
        self._batch_size = batch_size
        self._timeout_ms = timeout_ms

    async def deliver(self) -> int:
        """Deliver one batch of single changes; returns its number of outbox rows."""
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            claim = await outbox.claim(pg, self._batch_size)
            if not claim.ids:
                return 0
            entry = await self.hand_over(claim, read_at_ms)
            await outbox.settle(pg, claim.ids, entry_order(entry))
        self.batches += 1
        return len(claim.ids)

    async def deliver_bulk(self) -> int:
        """Deliver some bulk-created links, or all of one COPY; returns how many (0 if none wait).

        Custom codes are delivered first, because visitors may have requested them before they
        existed.
        """
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            custom = await outbox.claim(pg, _BULK_BATCH, outbox.BULK_CUSTOM_CODES)
            if custom.ids:
                entry = await self.hand_over(custom, read_at_ms)
                await outbox.settle(pg, custom.ids, entry_order(entry))
                links = len(custom.ids)
            elif (copy := await outbox.claim_copy(pg)) is not None:
                links, last = 0, None
                async for part in outbox.links_of(pg, copy, _BULK_BATCH):
                    last = entry_order(await self.hand_over(part, read_at_ms))
                    links += len(part.records)
                await outbox.settle_copy(pg, copy, last)
            else:
                return 0
        self.batches += 1
        self.bulk_links += links
        return max(links, 1)  # every link of a COPY may have changed since then

    async def hand_over(self, claim: outbox.Claim, read_at_ms: int) -> str:
        """Publish the records of `claim` and append its changes; returns the id of the feed entry.

        The records come first: a redirector that reads a change finds its record in Redis.
        """
        results = await self._store.publish_many(claim.records, read_at_ms=read_at_ms)
        for result, count in Counter(results).items():
            self.published[result.name.lower()] += count
        if Published.EXPIRED in results:
            # This relay was delayed, and the links may have changed since: read them again.
            raise CacheUnavailable("The records were read too long ago.")
        return await self._append(claim.changes)

    async def send_heartbeat(self) -> None:
        """Append an entry without changes to the change feed."""
        await self._append([])

    async def _append(self, changes: Sequence[Change]) -> str:
        try:
            return await self._feed.append(changes)
        except REDIS_UNAVAILABLE_ERRORS as error:
            raise CacheUnavailable(f"Redis is not answering: {error}") from error
