"""Background tasks. If a task that must run forever ends, the process ends as well."""

import asyncio
from collections import Counter
from collections.abc import Coroutine

import structlog

from shortcore.runtime.metrics import FromMemory
from shortcore.storage.dependency import Dependency
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)


class Background:
    """Owns the background tasks of a process.

    If a task of `run_forever` ends for any reason, the process looks healthy but lacks a part. So
    `failed` is set, `drain.run` drains and ends the process, and Kubernetes (or another supervisor)
    restarts it. A task must therefore retry temporary failures, such as a server that is down.

    Set `ending` before the tasks are cancelled on purpose.
    """

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.ending = False
        self._failures: Counter[str] = Counter()
        self._reason = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def run_forever(self, name: str, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Run `work`, which must not end before the process."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        self.watch(name, task)
        return task

    def watch(self, name: str, task: "asyncio.Task[None]") -> None:
        """Treat the end of a task like that of `run_forever`; another object owns and cancels it."""
        self._failures[name] += 0  # the metric exists before the first failure
        task.add_done_callback(lambda task: self._ended(name, task))

    def spawn(self, name: str, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Run `work`, which may end; a failure is logged and counted."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(name, task))
        return task

    def check(self) -> Dependency:
        """Return the state of the background tasks for `/health`."""
        return Dependency("background tasks", not self._reason, self._reason or "running")

    def export(self, memory: FromMemory) -> None:
        """Export the metric of failures."""
        memory.counter(
            "shortlinks_background_task_failures",
            "Failures of background tasks. If a task that must run forever fails, the process ends.",
            lambda: dict(self._failures),
            label="task",
        )

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        self.ending = True
        await end_tasks(list(self._tasks))

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self.ending:
            if error is not None:
                log.error("background task failed during shutdown", task=name, exc_info=error)
            return
        self._failures[name] += 1
        how = "was cancelled" if task.cancelled() else "ended" if error is None else repr(error)
        self._reason = f"{name}: {how}"
        log.critical(
            "background task failed; the process will end", task=name, reason=how, exc_info=error
        )
        self.failed.set()

    def _done(self, name: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures[name] += 1
            log.error("background task failed", task=name, exc_info=error)
