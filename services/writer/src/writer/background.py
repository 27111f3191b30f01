"""Tasks beside the requests: kept from the garbage collector, logged when they fail, ended."""

import asyncio
from collections.abc import Coroutine

import structlog

from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)


class Background:
    """Owns tasks; `close` cancels what still runs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        """Run `work` beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)

    async def close(self) -> None:
        """Cancel every task and wait for its end."""
        await end_tasks(list(self._tasks))
