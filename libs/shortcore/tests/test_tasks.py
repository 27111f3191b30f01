"""Tasks end even if something in them swallows a cancellation."""

import asyncio

from shortcore.tasks import end_tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again():
    swallowed = 0

    async def stubborn():
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(3600)

    async def failing():
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError

    tasks = [asyncio.create_task(work()) for work in (stubborn, failing)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end_tasks(tasks)
    assert swallowed == 2
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
