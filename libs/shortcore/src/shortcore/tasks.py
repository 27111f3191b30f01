"""Ending tasks: one cancellation is not always enough."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.5
"""After so long a task that was cancelled and still runs is cancelled once more."""


async def end_tasks(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Cancel `tasks` and wait until each has ended, however it does.

    Again until they end: a cancellation that meets a deadline of redis-py, or `asyncio.wait_for`
    of Python 3.11, at the same moment can be swallowed there.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_S)
