"""Waits in time for which the event loop ran, so that a stall of the process uses up no wait."""

import asyncio
from collections.abc import Callable

TICK_S = 0.05
"""Longest time that counts at once, in seconds."""


async def run_for(seconds: float, *, stall_s: float, over: Callable[[], bool]) -> float:
    """Let the event loop run for `seconds`; returns the seconds that were counted.

    The wait is divided into ticks. A tick counts as its nominal length, even if it took longer: a
    process that was suspended, or that got no processor, has served nobody meanwhile. Such stalls extend
    the wait by `stall_s` at most. The wait ends at the next tick when `over` returns True.
    """
    loop = asyncio.get_running_loop()
    latest = loop.time() + seconds + stall_s
    counted = 0.0
    while counted < seconds and loop.time() < latest and not over():
        tick = min(TICK_S, seconds - counted)
        await asyncio.sleep(tick)
        counted += tick
    return counted
