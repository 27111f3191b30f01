"""Follows the change feed and invalidates changed links in the local cache.

It reads from its own position, so it catches up after a cut. If changes were lost (the stream was
trimmed, flushed or failed over), every cached link is looked up again. While the feed is cut, the
TTL of the entries bounds how old a response can be.
"""

import asyncio
import random
from collections.abc import Callable

import structlog

from redirector.lookup.custom_codes import CustomCodes
from redirector.lookup.freshness import RelayHeartbeat
from redirector.lookup.lookup import LinkCache
from shortcore.cache.change_feed import Batch, ChangeFeed, FeedUnreadable
from shortcore.links.record import split_key
from shortcore.storage.dependency import Dependency
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS

log = structlog.stdlib.get_logger(__name__)

WAIT_MS = 1000
"""How long one read waits for changes; the timeout of the feed's client must be longer."""

AT_ONCE = 500
"""Changes applied before requests get a turn of the event loop: one read may bring 10,000."""

_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0


class Invalidation:
    """Follows `feed` in `run()`; calls `domain_changed` when a domain has changed.

    It sets `heartbeat` to a time after which a relay has appended to the feed: at that time, Redis
    accepted writes, and relays kept its records up to date.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        cache: LinkCache,
        *,
        heartbeat: RelayHeartbeat,
        custom_codes: CustomCodes,
        domain_changed: Callable[[], None],
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self.connected = False
        self.gaps = 0
        self.changes = 0
        self._feed = feed
        self._cache = cache
        self._heartbeat = heartbeat
        self._custom_codes = custom_codes
        self._domain_changed = domain_changed
        self._clock = clock
        self._now_ms = now_ms
        self._position: str | None = None
        self._read_at = clock()
        self._drained_at = self._read_at
        self._delay_s = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._error = "not connected yet"

    def lag_s(self) -> float:
        """Return the delay of the newest change, or while the feed is cut, the time since the cut."""
        return self._delay_s if self.connected else self._clock() - self._read_at

    def check(self) -> Dependency:
        """Return the line of the change feed for `/health`."""
        detail = "following" if self.connected else self._error
        return Dependency("change feed", self.connected, detail)

    async def run(self) -> None:
        """Follow the feed for ever."""
        while True:
            try:
                await self._step()
            except REDIS_UNAVAILABLE_ERRORS as error:
                self._cut(f"{type(error).__name__}: {error}")
            except FeedUnreadable as error:
                # An unreadable entry counts as a lost change.
                self._position = None
                self.gaps += 1
                self._cut(f"unreadable entry: {error}")
            else:
                continue
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1))  # noqa: S311  # spreads reconnects
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    async def _step(self) -> None:
        if self._position is None:
            self._drained_at = self._clock()
            self._position = await self._feed.end()
            # Links that were read before this may have changed since.
            self._cache.expire()
            self._custom_codes.distrust()
        batch = await self._feed.read(self._position, wait_ms=WAIT_MS)
        await self._apply(batch)
        if _of_a_relay(batch) and not batch.gap:
            self._heartbeat.last_heartbeat_at = self._drained_at  # the heartbeat came after that
            if batch.all_told:
                # After a cut, the heartbeat may be as old as the cut, and changes may follow it.
                self._custom_codes.all_told(self._drained_at)
        self._position = batch.position
        self._read_at = self._clock()
        if batch.drained:
            self._drained_at = self._read_at
        self._retry_s = _FIRST_RETRY_S
        if not self.connected:
            self.connected = True
            log.info("following the change feed")

    async def _apply(self, batch: Batch) -> None:
        if batch.gap:
            self.gaps += 1
            log.warning("change feed has a gap: every cached link is looked up again")
            self._cache.expire()
            self._custom_codes.distrust()
            self._domain_changed()
        now_ms = self._now_ms()
        self._delay_s = 0.0
        for number, change in enumerate(batch.changes, 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            self.changes += 1
            self._delay_s = max(self._delay_s, (now_ms - change.at_ms) / 1000)
            if split_key(change.key)[1]:
                self._cache.invalidate(change.key, change.version)
                self._custom_codes.note(change.key)
            else:
                self._domain_changed()

    def _cut(self, error: str) -> None:
        if self.connected:
            log.warning("change feed is cut", error=error)
        self.connected = False
        self._custom_codes.silence()
        self._error = error


def _of_a_relay(batch: Batch) -> bool:
    # A version of 0 is a writer's pre-announcement, which is not a heartbeat.
    return batch.all_told or any(change.version for change in batch.changes)
