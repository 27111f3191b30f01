"""Limits the wrong passwords of a client for one link per minute.

The attempts are counted in Redis, so the limit applies across all redirectors. They are also
counted in this process, so a limit per process applies while Redis is down.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b

from shortcore.cache.keys import CacheKeys
from shortcore.http.networks import client_of
from shortcore.links.record import LinkKey
from shortcore.storage.circuit_breaker import Breaker, State
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client

WINDOW_S = 60
_REMEMBERED = 10_000
"""Maximum counters in this process; the oldest are evicted."""


class RateLimit:
    """Counts an attempt before it is checked, so that many at once cannot slip through."""

    def __init__(
        self,
        client: Client,
        keys: CacheKeys,
        breaker: Breaker,
        *,
        secret: bytes,
        attempts: int,
        timeout_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._keys = keys
        self._breaker = breaker
        self._secret = secret[:64]
        self._attempts = attempts
        self._timeout_s = timeout_ms / 1000
        self._clock = clock
        self._local: dict[str, tuple[float, int]] = {}

    def is_spent(self, key: LinkKey, address: str) -> bool:
        """Return whether an attempt of this client was rejected in this window, without counting."""
        ends, count = self._local.get(self._name(key, address), (0.0, 0))
        return count > self._attempts and ends > self._clock()

    async def attempt(self, key: LinkKey, address: str) -> bool:
        """Count one attempt; returns False when it is one too many."""
        name = self._name(key, address)
        if self._count(name, 1) > self._attempts:
            return False
        if await self._count_in_redis(name, 1) <= self._attempts:
            return True
        self._local[name] = (
            self._clock() + WINDOW_S,
            self._attempts + 1,
        )  # so Redis is not asked again
        return False

    async def forgive(self, key: LinkKey, address: str) -> None:
        """Uncount one attempt, as its password was right."""
        name = self._name(key, address)
        self._count(name, -1)
        await self._count_in_redis(name, -1)

    def _name(self, key: LinkKey, address: str) -> str:
        digest = blake2b(client_of(address).encode(), key=self._secret, digest_size=12)
        return self._keys.throttle(key, digest.hexdigest())

    def _count(self, name: str, step: int) -> int:
        now = self._clock()
        ends, count = self._local.get(name, (0.0, 0))
        if ends <= now:
            ends, count = now + WINDOW_S, 0
        self._local[name] = (ends, count + step)
        if len(self._local) > _REMEMBERED:
            del self._local[next(iter(self._local))]
        return count + step

    async def _count_in_redis(self, name: str, step: int) -> int:
        if self._breaker.state is not State.CLOSED:
            return 0
        try:
            async with asyncio.timeout(self._timeout_s):
                count = int(await self._client.incrby(name, step))
                # Each time, but only where there is none: a crash in between leaves no counter
                # that never ends.
                await self._client.expire(name, WINDOW_S, nx=True)
        except REDIS_UNAVAILABLE_ERRORS:
            return 0  # fail open: the counter of this process still limits
        return count
