"""Limits the password checks of each link per second: checks are delayed, never rejected.

Every check books the next free slot of its link. Slots are `interval_ms` apart, except for a burst
(the generic cell rate algorithm, ITU-T I.371). Redis keeps the schedule, so the limit holds over
all redirectors; each process keeps its own as well, so a limit per process holds without Redis.
"""

import asyncio
from collections.abc import Callable

from shortcore.cache.keys import CacheKeys
from shortcore.cache.scripts import BOOK
from shortcore.links.record import LinkKey
from shortcore.storage.circuit_breaker import Breaker, State
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client

_REMEMBERED = 10_000
"""Maximum schedules in this process; the oldest are evicted."""


class Pacer:
    """`book` returns the delay of a check; `give_back` frees its slot again."""

    def __init__(
        self,
        client: Client,
        keys: CacheKeys,
        breaker: Breaker,
        *,
        checks_per_s: float,
        burst: int,
        timeout_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._script = client.register_script(BOOK)
        self._keys = keys
        self._breaker = breaker
        self._interval_s = 1 / checks_per_s
        self._burst = burst
        self._timeout_s = timeout_ms / 1000
        self._clock = clock
        self._due: dict[LinkKey, float] = {}

    async def book(self, key: LinkKey) -> float:
        """Book the next slot of the link; returns the seconds until it."""
        return max(self._book(key, 1), await self._book_in_redis(key, 1))

    async def give_back(self, key: LinkKey) -> None:
        """Free a booked slot: its password was right."""
        self._book(key, -1)
        await self._book_in_redis(key, -1)

    def _book(self, key: LinkKey, slots: int) -> float:
        now = self._clock()
        # A schedule that changes goes to the end, so the oldest ones are at the beginning.
        due = max(self._due.pop(key, now), now)
        if due + slots * self._interval_s > now:
            self._due[key] = due + slots * self._interval_s
        if len(self._due) > _REMEMBERED:
            del self._due[next(iter(self._due))]
        return max(0.0, due - now - (self._burst - 1) * self._interval_s)

    async def _book_in_redis(self, key: LinkKey, slots: int) -> float:
        if self._breaker.state is not State.CLOSED:
            return 0.0
        try:
            async with asyncio.timeout(self._timeout_s):
                wait_ms = await self._script(
                    keys=[self._keys.pace(key)],
                    args=[self._interval_s * 1000, self._burst, slots],
                )
        except REDIS_UNAVAILABLE_ERRORS:
            return 0.0  # fail open: the schedule of this process still limits
        return int(wait_ms) / 1000
