"""Ends waits early when a background process stops, and retries steps until it stops."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine

import asyncpg
import structlog

from shortcore.errors import DatabaseUnavailable, Unavailable
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)

MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0
"""The pause after a failure doubles from the minimum to the maximum, with jitter."""


class Stopping:
    """The stop signal of a process; `errors` counts failed steps by the dependency that failed."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter(postgres=0, redis=0)
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Signal the process to stop."""
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as the process stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    async def or_first(self, *waits: Coroutine[object, object, object]) -> None:
        """Return when one of `waits` ends or the process stops; ends the others."""
        tasks = [asyncio.ensure_future(wait) for wait in (*waits, self._event.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)

    async def retry(self, step: Callable[[], Awaitable[int | None]]) -> int:
        """Call `step` until it succeeds or the process stops; returns its result, or 0."""
        backoff = MIN_BACKOFF_S
        while True:
            try:
                return await step() or 0
            except Unavailable as error:
                self.errors["postgres" if isinstance(error, DatabaseUnavailable) else "redis"] += 1
                log.warning("step failed; will retry", step=step.__name__, reason=error.detail)
            except asyncpg.PostgresError:
                # PostgreSQL refused: a lock of a migration, or a missing privilege. An operator can
                # correct that; ending the process here would only cause a crash loop.
                self.errors["postgres"] += 1
                log.exception("step failed; will retry", step=step.__name__)
            await self.pause(backoff * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
            if self:
                return 0
            backoff = min(2 * backoff, MAX_BACKOFF_S)
