"""One lookup per key at a time, shared by all callers, and sent in batches.

With `SingleFlight` any number of callers wait for one key. A cancelled caller never fails the
others. `Batches` collects the keys of one event loop iteration, or all keys that arrive while its
workers are busy: a longer queue makes larger batches, not more batches.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from shortcore.tasks import end_tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """The lookups in progress, and the callbacks that wait for each."""

    def __init__(self) -> None:
        self._waiters: dict[K, list[Callable[[V], None]]] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, key: K) -> bool:
        return key in self._waiters

    def start(self, key: K) -> bool:
        """Begin a lookup of `key`; returns False if one is in progress."""
        if key in self._waiters:
            return False
        self._waiters[key] = []
        return True

    def wait(self, key: K, then: Callable[[V], None]) -> bool:
        """Call `then` with the value when `key` is resolved; returns True if this begins a lookup."""
        waiters = self._waiters.get(key)
        if waiters is None:
            self._waiters[key] = [then]
            return True
        waiters.append(then)
        return False

    def resolve(self, key: K, value: V) -> bool:
        """Pass `value` to all callbacks of `key`; returns False if no lookup was in progress."""
        waiters = self._waiters.pop(key, None)
        if waiters is None:
            return False
        for then in waiters:
            try:
                then(value)
            except Exception as error:  # noqa: BLE001  # a bug in one callback must not fail the others
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "lookup callback failed", "exception": error}
                )
        return True


def settle(future: asyncio.Future[V], value: V) -> None:
    """Set the result of `future`; a coroutine waits with `partial(settle, future)`."""
    if not future.done():  # its caller was cancelled
        future.set_result(value)


class Batches(Generic[K]):
    """Passes added keys to `work`: at most `size` keys per batch, and `workers` batches at once.

    `after(keys)` runs when the work of a batch has ended, also after an error. `work` may remove
    keys from its list, which `after` then does not get.
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
        """Queue `key` for the next batch; returns False if `waiting` keys are queued already."""
        if len(self._queue) >= self._limit:
            return False
        self._queue.append(key)
        if not self._scheduled and len(self._running) < self._workers:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)
        return True

    async def close(self) -> None:
        """Cancel all batches; `after` gets their keys and the queued ones."""
        waiting, self._queue = self._queue, []
        self._after(waiting)
        await end_tasks(list(self._running))

    def _start(self) -> None:
        self._scheduled = False
        while self._queue and len(self._running) < self._workers:
            keys, self._queue = self._queue[: self._size], self._queue[self._size :]
            reported: list[bool] = []
            task = asyncio.get_running_loop().create_task(self._run(keys, reported))
            self._running.add(task)
            task.add_done_callback(partial(self._ended, keys, reported))

    async def _run(self, keys: list[K], reported: list[bool]) -> None:
        try:
            await self._work(keys)
        finally:
            # Not one event loop iteration later: a caller that got its answer may begin a new lookup
            # of a key by then, and `after` would end that one.
            reported.append(True)
            self._after(keys)

    def _ended(self, keys: list[K], reported: list[bool], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not reported:  # it was cancelled before it began
            self._after(keys)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug: `after` has ended the lookups. Log it for the operator.
            task.get_loop().call_exception_handler(
                {"message": "batch of lookups failed", "exception": error, "task": task}
            )
        self._start()
