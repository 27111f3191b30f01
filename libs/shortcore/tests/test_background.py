"""A background task that ends makes the process end in order; nothing else does."""

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
async def test_a_task_that_must_run_for_ever_and_ends_is_a_failure(work):
    background = Background()
    background.run_forever("well", idle())
    assert background.check().ok
    background.run_forever("task", work())
    await asyncio.wait_for(background.failed.wait(), 5)
    assert not background.check().ok
    assert background.check().detail.startswith("task: ")
    assert failures(background) == {"well": 0, "task": 1}
    await background.close()


async def test_a_cancellation_that_nobody_meant_is_a_failure():
    background = Background()
    background.run_forever("task", idle()).cancel()
    await asyncio.wait_for(background.failed.wait(), 5)
    assert background.check().detail == "task: was cancelled"


async def test_a_task_of_another_owner_is_watched_alike():
    background = Background()
    background.watch("port", asyncio.create_task(quick()))
    await asyncio.wait_for(background.failed.wait(), 5)


async def test_an_end_on_purpose_is_no_failure():
    background = Background()
    tasks = [background.run_forever("task", idle()), background.spawn("once", idle())]
    await background.close()
    assert all(task.cancelled() for task in tasks)
    assert not background.failed.is_set()
    assert background.check().ok


async def test_a_task_that_ends_by_itself_may_fail_without_ending_the_process():
    background = Background()
    task = background.spawn("once", broken())
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert not background.failed.is_set()
    assert failures(background) == {"once": 1}
