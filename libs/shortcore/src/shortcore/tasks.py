"""Ends tasks, for which one cancellation is not always enough."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.5
"""Interval at which a cancelled task that still runs is cancelled again, in seconds."""


async def end_tasks(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Cancel `tasks` and wait until each has ended, with or without an error.

    The cancellation is repeated until they end: redis-py, and `asyncio.wait_for` of Python 3.11,
    can swallow a cancellation that arrives at the same moment as a timeout.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_S)
