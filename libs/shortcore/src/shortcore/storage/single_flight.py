"""One look-up a key at a time, shared by all who wait for it, asked for in batches.

`SingleFlight` lets any number of callers wait for one key; a waiter who goes away (or the very first
one) never fails the others. `Batches` collects keys of the same loop tick, and while all its
workers are busy, so that a queue becomes bigger batches instead of more of them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from shortcore.tasks import end_tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Who waits for which key."""

    def __init__(self) -> None:
        self._waiters: dict[K, list[Callable[[V], None]]] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, key: K) -> bool:
        return key in self._waiters

    def start(self, key: K) -> bool:
        """Open the flight of `key`; returns False if it is under way already."""
        if key in self._waiters:
            return False
        self._waiters[key] = []
        return True

    def wait(self, key: K, then: Callable[[V], None]) -> bool:
        """Have `then` called with what `resolve` brings; returns whether that opens the flight."""
        waiters = self._waiters.get(key)
        if waiters is None:
            self._waiters[key] = [then]
            return True
        waiters.append(then)
        return False

    def resolve(self, key: K, value: V) -> bool:
        """Give `value` to all who wait for `key`; returns False if nothing was under way."""
        waiters = self._waiters.pop(key, None)
        if waiters is None:
            return False
        for then in waiters:
            try:
                then(value)
            except Exception as error:  # noqa: BLE001  # a fault of ours must not take the others with it
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "what waited for a look-up failed", "exception": error}
                )
        return True


def settle(future: asyncio.Future[V], value: V) -> None:
    """Let `future` have `value`, for a waiter that is a coroutine (`partial(settle, future)`)."""
    if not future.done():  # cancelled: its request is gone
        future.set_result(value)


class Batches(Generic[K]):
    """Hands `work` the keys that were added, at most `size` a batch and `workers` at once.

    `after(keys)` runs when the work of a batch has ended, however it ended. `work` may take from
    its list the keys that it is done with, which `after` then does not get.
    """

    def __init__(
        self,
        work: Callable[[list[K]], Coroutine[Any, Any, None]],
        after: Callable[[list[K]], None],
        *,
        size: int,
        workers: int,
        waiting: int,
    ) -> None:
        self._work = work
        self._after = after
        self._size = size
        self._workers = workers
        self._limit = waiting
        self._queue: list[K] = []
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def add(self, key: K) -> bool:
        """Queue `key` for the next batch; returns False when `waiting` keys are queued already."""
        if len(self._queue) >= self._limit:
            return False
        self._queue.append(key)
        if not self._scheduled and len(self._running) < self._workers:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)
        return True

    async def close(self) -> None:
        """Cancel what is under way; whoever still waits is told by `after`."""
        waiting, self._queue = self._queue, []
        self._after(waiting)
        await end_tasks(list(self._running))

    def _start(self) -> None:
        self._scheduled = False
        while self._queue and len(self._running) < self._workers:
            keys, self._queue = self._queue[: self._size], self._queue[self._size :]
            told: list[bool] = []
            task = asyncio.get_running_loop().create_task(self._run(keys, told))
            self._running.add(task)
            task.add_done_callback(partial(self._ended, keys, told))

    async def _run(self, keys: list[K], told: list[bool]) -> None:
        try:
            await self._work(keys)
        finally:
            # Not one loop tick later: whoever was answered may ask for a key again by then, and
            # `after` would take that new flight for the one that has ended.
            told.append(True)
            self._after(keys)

    def _ended(self, keys: list[K], told: list[bool], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not told:  # it was cancelled before it began
            self._after(keys)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours; its waiters have been told by `after`, the operator here.
            task.get_loop().call_exception_handler(
                {"message": "a batch of look-ups failed", "exception": error, "task": task}
            )
        self._start()
