"""Publication around a commit: pre-announces custom codes, publishes records, notifies the relay.

All of it is best effort. The outbox row guarantees delivery; this only makes a change visible
sooner.
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
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from writer.relay.outbox import CHANNEL
from writer.storage.batching import Batcher

log = structlog.stdlib.get_logger(__name__)

_MIN_INTERVAL_S = 0.002
_NEW_LINKS_WAIT_S = 0.04
"""Added to the interval between two notifications if only generated codes wait: nobody had these
links yet, they were published already, and each batch of the relay costs as much as ten links."""

_MAX_BATCH = 500
_MAX_WAITING = 5000

Publication = tuple[LinkKey, LinkRecord]
_Fill = tuple[LinkKey, LinkRecord, int]


class Publisher:
    """Publishes committed changes to Redis and notifies the relay."""

    def __init__(
        self,
        cache: CacheStore,
        feed: ChangeFeed,
        postgres: Postgres,
        now_ms: Callable[[], int],
    ) -> None:
        self.publish_failures = 0
        self.preannounce_failures = 0
        self.moment = now_ms
        """Returns the time to pass to `publish`; call it before the transaction begins."""
        self._cache = cache
        self._feed = feed
        self._postgres = postgres
        self._wanted = asyncio.Event()
        self._urgent = asyncio.Event()
        self._batcher: Batcher[_Fill, Published] = Batcher(
            self._fill, max_items=_MAX_BATCH, max_waiting=_MAX_WAITING
        )

    def export(self, source: FromMemory) -> None:
        """Add the metrics to `/metrics`."""
        source.counter(
            "shortlinks_publish_failures",
            "Records that could not be published in time; the relay publishes them.",
            lambda: self.publish_failures,
        )
        source.counter(
            "shortlinks_preannounce_failures",
            "Pre-announcements of custom codes that failed.",
            lambda: self.preannounce_failures,
        )

    @contextlib.asynccontextmanager
    async def preannounced(self, keys: Sequence[LinkKey]) -> AsyncIterator[None]:
        """Pre-announce the custom codes `keys` to the redirectors while the block creates them.

        During a scan, redirectors refuse unknown custom codes without a lookup (docs/adr/0007).
        With the pre-announcement they know a code before the response to its creation is sent,
        however large the backlog of the relay is. A code that is not created in the end costs
        them a lookup.
        """
        if not keys:
            yield
            return
        task = asyncio.create_task(self._preannounce(keys))
        try:
            yield
        finally:
            await task
            self._urgent.set()  # a visitor may have got a 404 for this code

    async def publish(self, records: Sequence[Publication], as_of_ms: int) -> None:
        """Publish the records of changed links within the timeout, and notify the relay at once.

        `as_of_ms` is a `moment` from before the transaction. Redis refuses records that are too
        old, because the links may have changed again since then.
        """
        self._urgent.set()
        await self.publish_new(records, as_of_ms)

    async def publish_new(self, records: Sequence[Publication], as_of_ms: int) -> None:
        """Publish the records of new links; the relay may be notified later, together with others.

        Generated codes need no urgent notification: no visitor can have requested them before. For
        custom codes, `preannounced` makes the notification urgent.
        """
        self._wanted.set()
        fills = [(key, record, as_of_ms) for key, record in records]
        if len(fills) == 1:
            await self._attempt(self._batcher.submit(fills[0]))
        elif fills:
            await self._attempt(self._fill(fills))

    def wake_relay(self) -> None:
        """Notify the relay soon."""
        self._urgent.set()
        self._wanted.set()

    async def notify_forever(self) -> None:
        """Send notifications: at most one in 2 ms, or in 42 ms if only generated codes are new.

        A NOTIFY inside of the transactions would make their commits wait for each other
        (docs/adr/0003).
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._urgent.clear()
            try:
                await self.notify()
            except POSTGRES_RETRYABLE_ERRORS as error:
                log.warning("relay notification failed; the relay will poll", error=str(error))
            await asyncio.sleep(_MIN_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NEW_LINKS_WAIT_S):
                    await self._urgent.wait()

    async def notify(self) -> None:
        """Send a notification now; raises DatabaseUnavailable."""
        async with self._postgres.connection() as connection:
            await connection.execute("SELECT pg_notify($1, '')", CHANNEL)

    async def _preannounce(self, keys: Sequence[LinkKey]) -> None:
        at_ms = self.moment()
        try:
            for at in range(0, len(keys), _MAX_BATCH):
                changes = [Change(key, 0, at_ms) for key in keys[at : at + _MAX_BATCH]]
                await self._cache.call(partial(self._feed.append, changes))
        except CacheUnavailable:  # without the feed, redirectors look up every code
            self.preannounce_failures += 1

    async def _attempt(self, publishing: Awaitable[object]) -> None:
        try:
            await publishing
        except Unavailable as error:
            log.debug("publishing failed; the relay will publish", error=error.detail)

    async def _fill(self, fills: Sequence[_Fill]) -> Sequence[Published | Exception]:
        try:
            results = await self._cache.fill_many(fills)
        except CacheUnavailable:
            self.publish_failures += len(fills)
            raise
        self.publish_failures += results.count(Published.EXPIRED)
        return results
