"""Divides long work into turns, so that the event loop can run other tasks in between."""

import asyncio
import time
from typing import Final

TURN_S: Final = 0.005
"""Maximum duration of a turn. The work between two checks must take far less than 50 ms."""


class Turn:
    """A turn of long work in the event loop; `over` returns True after `TURN_S`.

    A turn is measured in time, not in items: a valid row takes a microsecond, a row that breaks
    every rule takes a millisecond.
    """

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether the turn is over, so that the work must call `give_way`."""
        return time.perf_counter() - self._began > TURN_S

    async def give_way(self) -> None:
        """Let all other ready tasks run once, then start the next turn."""
        await asyncio.sleep(0)
        self._began = time.perf_counter()
