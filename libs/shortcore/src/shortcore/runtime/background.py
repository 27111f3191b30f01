"""Background tasks: if one that must run for ever ends, the process ends with it."""

import asyncio
from collections import Counter
from collections.abc import Coroutine

import structlog

from shortcore.runtime.metrics import FromMemory
from shortcore.storage.dependency import Dependency
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)


class Background:
    """Owns the background tasks of one process.

    A task of `run_forever` that ends, however it does, leaves a process that looks healthy and
    lacks a part. So `failed` is set, and `drain.run` ends the process in order; whatever started
    the process then starts it again. A failure that may pass, such as a server that is down, must
    therefore be retried inside the task.

    Set `ending` before the tasks are ended on purpose.
    """

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.ending = False
        self._failures: Counter[str] = Counter()
        self._reason = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def run_forever(self, name: str, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Run `work`, which must not end before the process does."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        self.watch(name, task)
        return task

    def watch(self, name: str, task: "asyncio.Task[None]") -> None:
        """Treat a task that somebody else owns, and ends, like one of `run_forever`."""
        self._failures[name] += 0  # shown before the first failure
        task.add_done_callback(lambda task: self._ended(name, task))

    def spawn(self, name: str, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Run `work`, which ends by itself; a failure is logged and counted."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(name, task))
        return task

    def check(self) -> Dependency:
        """Return the line of the tasks for `/health`."""
        return Dependency("background tasks", not self._reason, self._reason or "running")

    def export(self, memory: FromMemory) -> None:
        """Add the metric of failures."""
        memory.counter(
            "shortlinks_background_task_failures",
            "Background tasks that failed; one that must run for ever ends the process",
            lambda: dict(self._failures),
            label="task",
        )

    async def close(self) -> None:
        """Cancel every task and wait until each has ended."""
        self.ending = True
        await end_tasks(list(self._tasks))

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self.ending:
            if error is not None:
                log.error("a background task failed at its end", task=name, exc_info=error)
            return
        self._failures[name] += 1
        how = "was cancelled" if task.cancelled() else "ended" if error is None else repr(error)
        self._reason = f"{name}: {how}"
        log.critical(
            "a background task failed, so the process ends", task=name, reason=how, exc_info=error
        )
        self.failed.set()

    def _done(self, name: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures[name] += 1
            log.error("a background task failed", task=name, exc_info=error)
