"""Long work in short pieces: the event loop serves others after every few milliseconds."""

import asyncio
import time
from typing import Final

TURN_S: Final = 0.005
"""Time after which work gives way; its pieces in between must be far shorter than 50 ms."""


class Turn:
    """Knows when the work that holds it has had the event loop for `TURN_S`.

    Count time, not items: one row may cost a microsecond or, with every rule broken, a
    millisecond.
    """

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def over(self) -> bool:
        """Say whether to give way now."""
        return time.perf_counter() - self._began > TURN_S

    async def give_way(self) -> None:
        """Let everything that is ready run once, then begin the next turn."""
        await asyncio.sleep(0)
        self._began = time.perf_counter()
