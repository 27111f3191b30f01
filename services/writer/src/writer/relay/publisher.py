"""Around a commit: tell the redirectors of new codes, offer the records to Redis, wake the relay.

All at best effort: the outbox row is what counts; all here only makes the change visible sooner.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import structlog

from shortcore.cache.change_feed import Change, ChangeFeed
from shortcore.cache.store import CacheStore, Published
from shortcore.errors import CacheUnavailable, Unavailable
from shortcore.links.record import LinkKey, LinkRecord
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from writer.relay import outbox
from writer.storage.batching import Batcher

log = structlog.stdlib.get_logger(__name__)

_NOTICE_EVERY_S = 0.002
_NEW_LINKS_WAIT_S = 0.04
"""After a notice the next one waits so much longer if it tells of new links alone: nobody had them
yet, Redis was offered them already, and each batch of the relay costs as much as ten links."""

_BATCH = 500
_WAITING = 5000

Publication = tuple[LinkKey, LinkRecord]
_Offer = tuple[LinkKey, LinkRecord, int]


class Publisher:
    """Tells Redis and the relay of committed changes.

    `publish_failures` counts records that Redis did not take in time; the relay brings them.
    """

    def __init__(
        self,
        cache: CacheStore,
        feed: ChangeFeed,
        postgres: Postgres,
        now_ms: Callable[[], int],
    ) -> None:
        self.publish_failures = 0
        self.preannounce_failures = 0
        self._cache = cache
        self._feed = feed
        self._postgres = postgres
        self._wanted = asyncio.Event()
        self._hurried = asyncio.Event()
        self.moment = now_ms
        """The time to give to `publish`, taken before the transaction begins."""
        self._batcher: Batcher[_Offer, Published] = Batcher(
            self._fill, max_items=_BATCH, max_waiting=_WAITING
        )

    @contextlib.asynccontextmanager
    async def preannounced(self, keys: Sequence[LinkKey]) -> AsyncIterator[None]:
        """Tell the redirectors of `keys`, of custom codes, while the block creates them.

        During a scan they refuse, without a look-up, every custom code that they have not heard
        of (docs/adr/0007): this one is known to them before its creation is answered, however far
        behind a relay is. A code that is told and never made costs them a look-up.
        """
        if not keys:
            yield
            return
        telling = asyncio.create_task(self._preannounce(keys))
        try:
            yield
        finally:
            await telling
            self._hurried.set()  # somebody may have asked for it already, and been told «not found»

    async def publish(self, records: Sequence[Publication], as_of_ms: int) -> None:
        """Offer `records` of changed links to Redis within its deadline; wake the relay at once.

        `as_of_ms` is a `moment` from before their transaction: Redis refuses them when it is long
        ago, as others may have changed the links again meanwhile.
        """
        self._hurried.set()
        await self.publish_new(records, as_of_ms)

    async def publish_new(self, records: Sequence[Publication], as_of_ms: int) -> None:
        """Do what `publish` does for new links, whose relay may wait for more of them.

        Nobody can have asked for a generated code before; a chosen one is in a hurry (`preannounced`).
        """
        self._wanted.set()
        offers = [(key, record, as_of_ms) for key, record in records]
        if len(offers) == 1:
            await self._offer(self._batcher.submit(offers[0]))
        elif offers:
            await self._offer(self._fill(offers))

    def wake_relay(self) -> None:
        """Have the relay look at the outbox soon."""
        self._hurried.set()
        self._wanted.set()

    async def notify_forever(self) -> None:
        """Send the notices: at most one in 2 ms (42 ms of new links), for any number of commits.

        Not inside the transactions, as NOTIFY would make their commits wait for each other
        (docs/adr/0003).
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._hurried.clear()
            try:
                await self.notify()
            except POSTGRES_RETRYABLE_ERRORS as error:
                log.warning("relay notification failed; the relay will poll", error=str(error))
            await asyncio.sleep(_NOTICE_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NEW_LINKS_WAIT_S):
                    await self._hurried.wait()

    async def notify(self) -> None:
        """Send one notice now; raises DatabaseUnavailable."""
        async with self._postgres.connection() as connection:
            await connection.execute("SELECT pg_notify($1, '')", outbox.CHANNEL)

    async def _preannounce(self, keys: Sequence[LinkKey]) -> None:
        at_ms = self.moment()
        try:
            for at in range(0, len(keys), _BATCH):
                changes = [Change(key, 0, at_ms) for key in keys[at : at + _BATCH]]
                await self._cache.call(partial(self._feed.append, changes))
        except CacheUnavailable:  # where the feed is cut, the redirectors look up every code
            self.preannounce_failures += 1

    async def _offer(self, publishing: Awaitable[object]) -> None:
        try:
            await publishing
        except Unavailable as error:
            log.debug("not published; the relay does it", error=error.detail)

    async def _fill(self, offers: Sequence[_Offer]) -> Sequence[Published | Exception]:
        try:
            results = await self._cache.fill_many(offers)
        except CacheUnavailable:
            self.publish_failures += len(offers)
            raise
        self.publish_failures += results.count(Published.EXPIRED)
        return results
