"""A wait counts the time in which the event loop ran."""

import asyncio
import time

from shortcore.runtime.loop_time import run_for


def never() -> bool:
    return False


async def stall(seconds: float, times: int) -> None:
    """Block the event loop, as a suspended process does."""
    for _ in range(times):
        time.sleep(seconds)  # noqa: ASYNC251  # on purpose
        await asyncio.sleep(0.001)


async def test_a_stall_of_the_event_loop_uses_up_one_tick() -> None:
    began = time.monotonic()
    _, counted = await asyncio.gather(stall(0.5, 1), run_for(0.3, stall_s=60, over=never))
    assert counted == 0.3
    assert time.monotonic() - began > 0.7


async def test_stalls_extend_a_wait_by_at_most_their_bound() -> None:
    _, counted = await asyncio.gather(stall(0.3, 4), run_for(0.5, stall_s=0.2, over=never))
    assert counted < 0.5


async def test_a_wait_ends_when_it_is_over() -> None:
    assert await run_for(60, stall_s=0, over=lambda: True) == 0
