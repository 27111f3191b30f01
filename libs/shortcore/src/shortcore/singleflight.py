"""One look-up a key at a time, shared by all who wait for it.

The work runs in a task of its own, so that a waiter who goes away (or the very first one)
never fails the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs `work(key)` once for any number of concurrent callers of the same key."""

    def __init__(self, work: Callable[[K], Awaitable[V]]) -> None:
        self._work = work
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def get(self, key: K) -> V:
        """Return what `work(key)` returns, or raise what it raises, to every waiter alike."""
        return await asyncio.shield(self.start(key))

    def start(self, key: K) -> asyncio.Task[V]:
        """Return the flight of `key`, started now if there was none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._run(key))
            self._flights[key] = flight
            flight.add_done_callback(_retrieve)
        return flight

    async def _run(self, key: K) -> V:
        try:
            return await self._work(key)
        finally:
            del self._flights[key]


def _retrieve(flight: "asyncio.Task[V]") -> None:
    # When all waiters left, nobody else looks at the exception; asyncio would complain.
    if not flight.cancelled():
        flight.exception()
