"""Adaptive batches: an item runs at once if none is running; items that arrive meanwhile wait.

With one caller there is no delay and no batch. With many, one round trip serves all waiting items
(group commit; DeWitt et al., SIGMOD 1984).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shortcore.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Passes items to `run` in batches of at most `max_items`, `in_flight` batches at a time.

    `run` returns one result for each item, in order. A result that is an exception is raised only
    for its item; an exception that `run` raises is raised for every item of the batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        max_items: int,
        max_waiting: int,
        in_flight: int = 1,
    ) -> None:
        self._run = run
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._in_flight = in_flight
        self._working = 0
        self._starting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """Return the result of `item`; raises Unavailable if `max_waiting` items wait already."""
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable("Too many requests are waiting; try again soon.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        # A task that has not started yet will also take this item.
        if self._working < self._in_flight and self._starting is None:
            self._starting = asyncio.create_task(self._work())
            self._tasks.add(self._starting)  # the event loop keeps only weak references
            self._starting.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self) -> None:
        self._starting = None
        self._working += 1
        try:
            while self._waiting:
                count = min(self._max_items, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                await self._run_batch(batch)
        finally:
            self._working -= 1

    async def _run_batch(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # every caller raises it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue  # the caller was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
