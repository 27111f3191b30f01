"""A background task that must run forever ends the process if it ends."""

import asyncio

import pytest

from shortcore.runtime.background import Background
from shortcore.runtime.metrics import FromMemory


async def broken():
    raise RuntimeError("injected")


async def idle():
    await asyncio.Event().wait()


async def quick():
    return


def failures(background):
    memory = FromMemory()
    background.export(memory)
    (family,) = memory.collect()
    return {sample.labels["task"]: sample.value for sample in family.samples}


@pytest.mark.parametrize("work", [broken, quick])
async def test_the_end_of_a_task_that_must_run_forever_is_a_failure(work):
    background = Background()
    background.run_forever("well", idle())
    assert background.check().ok
    background.run_forever("task", work())
    await asyncio.wait_for(background.failed.wait(), 30)
    assert not background.check().ok
    assert background.check().detail.startswith("task: ")
    assert failures(background) == {"well": 0, "task": 1}
    await background.close()


async def test_an_unexpected_cancellation_is_a_failure():
    background = Background()
    background.run_forever("task", idle()).cancel()
    await asyncio.wait_for(background.failed.wait(), 30)
    assert background.check().detail == "task: was cancelled"


async def test_the_end_of_a_watched_task_of_another_owner_is_a_failure():
    background = Background()
    background.watch("port", asyncio.create_task(quick()))
    await asyncio.wait_for(background.failed.wait(), 30)


async def test_close_cancels_all_tasks_without_a_failure():
    background = Background()
    tasks = [background.run_forever("task", idle()), background.spawn("once", idle())]
    await background.close()
    assert all(task.cancelled() for task in tasks)
    assert not background.failed.is_set()
    assert background.check().ok


async def test_the_failure_of_a_task_that_may_end_is_counted_and_does_not_end_the_process():
    background = Background()
    task = background.spawn("once", broken())
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert not background.failed.is_set()
    assert failures(background) == {"once": 1}
