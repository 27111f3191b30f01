"""Compares the change feed with the feed position, and sends lost links to Redis again."""

import logging

import structlog

from shortcore.cache.change_feed import ChangeFeed, FeedUnreadable, entry_order
from shortcore.clock import unix_ms
from shortcore.errors import CacheUnavailable
from shortcore.settings.relay import RelaySettings
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client, servers_of
from writer.relay import outbox
from writer.relay.delivery import Delivery
from writer.relay.feed_position import FeedPosition, insert_position, read_position
from writer.relay.outbox import Backlog
from writer.relay.republish import delete_old_purges, next_republish, order_republish

log = structlog.stdlib.get_logger(__name__)

MARGIN_S = 60
"""Upper limit of the time from a transaction's `now()` until a filler has read its rows."""


class FeedMonitor:
    """Measures the backlog, sends heartbeats, and detects that Redis has lost changes.

    Every method raises DatabaseUnavailable or CacheUnavailable.
    """

    def __init__(
        self,
        postgres: Postgres,
        client: Client,
        feed: ChangeFeed,
        delivery: Delivery,
        settings: RelaySettings,
    ) -> None:
        self.backlog = Backlog()
        self.rollbacks = 0
        self.republished = 0
        self._postgres = postgres
        self._client = client
        self._feed = feed
        self._delivery = delivery
        self._batch_size = settings.relay_batch_size
        self._timeout_ms = settings.postgres_write_timeout_ms
        self._tombstone_ttl_s = settings.cache_tombstone_ttl_s
        self._longest_ttl_s = settings.cache_ttl_s

    def set_ttl(self, ttl_s: int) -> None:
        """Set the TTL of links in Redis; the maximum counts, because earlier links keep their TTL."""
        self._longest_ttl_s = max(self._longest_ttl_s, ttl_s)

    async def check(self) -> None:
        """Measure the backlog, and order a republish if Redis may have lost changes.

        The stored position is read first, so the feed ends there or later unless Redis has gone
        back to an older state.
        """
        async with self._postgres.connection(self._timeout_ms) as pg:
            self.backlog = await outbox.read_backlog(pg)
            stored = await read_position(pg)
            await delete_old_purges(pg, self._window_s())
        seen = await self._seen()
        if stored is not None and stored.servers == seen.servers and stored.last <= seen.last:
            if self.backlog.feed_complete:
                # No row waited, so every earlier commit is on the feed. Redirectors trust their
                # filter of custom codes only while they receive these heartbeats. Only generated
                # codes may still wait in `outbox_many`, and redirectors verify those themselves.
                await self._delivery.send_heartbeat()
            return
        await self._accept(stored, seen)

    async def republish(self) -> int:
        """Send the next links of a republish order; returns how many, 0 without an order."""
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            read_at_ms = unix_ms()
            claim = await next_republish(pg, self._batch_size, read_at_ms)
            if claim is None:
                return 0
            await self._delivery.hand_over(claim, read_at_ms)
        self.republished += len(claim.records)
        return len(claim.records)

    async def _seen(self) -> FeedPosition:
        try:
            return FeedPosition(await servers_of(self._client), entry_order(await self._feed.end()))
        except (*REDIS_UNAVAILABLE_ERRORS, FeedUnreadable) as error:
            raise CacheUnavailable(f"Redis is not answering: {error}") from error

    async def _accept(self, stored: FeedPosition | None, seen: FeedPosition) -> None:
        async with self._postgres.connection(self._timeout_ms) as pg, pg.transaction():
            if stored is None:
                await insert_position(pg, seen)
            elif await order_republish(pg, seen, self._window_s()):
                self.rollbacks += 1
                # A restart is normal. If the same Redis went back, or was emptied, redirectors may
                # have seen changes that it has lost.
                level = logging.INFO if stored.is_restart(seen) else logging.WARNING
                log.log(
                    level,
                    "redis may have lost changes; republishing recent changes",
                    stored=stored.last,
                    found=seen.last,
                )

    def _window_s(self) -> int:
        # An outdated record in Redis was written before its link changed, and its TTL has not
        # ended. So older changes need not be sent, whatever state Redis went back to.
        return max(self._longest_ttl_s, self._tombstone_ttl_s) + MARGIN_S
