"""The outbox relay: runs delivery, monitoring and listening concurrently until it stops.

Any number of relays may run. Links created in bulk are delivered by a separate loop at a limited
rate, so that single changes do not wait for them.
"""

import asyncio
import contextlib

from shortcore.cache.change_feed import ChangeFeed
from shortcore.cache.store import CacheStore
from shortcore.cache.wiring import cache_ttls
from shortcore.runtime.background import Background
from shortcore.runtime.dynamic_settings import INTERVAL_S, DynamicFile
from shortcore.runtime.stopping import Stopping
from shortcore.settings.relay import RelaySettings
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import Client
from writer.relay.delivery import Delivery
from writer.relay.feed_monitor import FeedMonitor
from writer.relay.listener import listen

APPLICATION = "shortlinks-relay"

CHECK_INTERVAL_S = 1.0
"""Interval at which the backlog is measured and the change feed is checked."""


class Relay:
    """The loops of a relay, between `start` and `stop`."""

    def __init__(
        self,
        postgres: Postgres,
        store: CacheStore,
        feed: ChangeFeed,
        client: Client,
        settings: RelaySettings,
    ) -> None:
        self.dynamic = DynamicFile(settings, self._apply)
        self.background = Background()
        self.stopping = Stopping()
        self.delivery = Delivery(
            postgres,
            store,
            feed,
            batch_size=settings.relay_batch_size,
            timeout_ms=settings.postgres_write_timeout_ms,
        )
        self.monitor = FeedMonitor(postgres, client, feed, self.delivery, settings)
        self._store = store
        self._settings = settings
        self._notified = asyncio.Event()
        self._bulk_notified = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every loop."""
        url = self._settings.postgres_url.get_secret_value()
        loops = {
            "delivery": self._deliver(),
            "bulk delivery": self._deliver_bulk(),
            "feed monitor": self._monitor(),
            "clock of Redis": self.stopping.or_first(self._store.follow_clock()),
            "republishing": self._republish(),
            "notifications": listen(url, f"{APPLICATION}-listen", self.stopping, self._wake),
            "dynamic settings": self._watch_settings(),
        }
        self._tasks = [self.background.run_forever(name, loop) for name, loop in loops.items()]

    async def stop(self) -> None:
        """Finish the current batches, then end every loop."""
        self.background.ending = True
        self.stopping.set()
        self._wake()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _apply(self, settings: RelaySettings) -> None:
        self.monitor.set_ttl(settings.cache_ttl_s)
        self._store.ttls = cache_ttls(settings)

    def _wake(self) -> None:
        self._notified.set()
        self._bulk_notified.set()

    async def _deliver(self) -> None:
        while not self.stopping:
            self._notified.clear()
            rows = await self.stopping.retry(self.delivery.deliver)
            if rows < self._settings.relay_batch_size:
                await self._wait_for(self._notified)

    async def _deliver_bulk(self) -> None:
        while not self.stopping:
            self._bulk_notified.clear()
            links = await self.stopping.retry(self.delivery.deliver_bulk)
            if links:
                await self.stopping.pause(links / self._settings.relay_bulk_rate)
            else:
                await self._wait_for(self._bulk_notified)

    async def _wait_for(self, notified: asyncio.Event) -> None:
        # Without a notification, the next attempt is made after the polling interval.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(notified.wait(), self._settings.relay_poll_ms / 1000)

    async def _monitor(self) -> None:
        while not self.stopping:
            await self.stopping.retry(self.monitor.check)
            await self.stopping.pause(CHECK_INTERVAL_S)

    async def _republish(self) -> None:
        while not self.stopping:
            sent = await self.stopping.retry(self.monitor.republish)
            rate = self._settings.relay_republish_rate
            await self.stopping.pause(max(sent / rate, 0.01) if sent else 1)

    async def _watch_settings(self) -> None:
        while not self.stopping:
            self.dynamic.read()
            await self.stopping.pause(INTERVAL_S)
