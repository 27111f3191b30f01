"""Lookups of one key are shared, and lookups of many keys are sent in batches."""

import asyncio
from functools import partial

import pytest

from shortcore.storage.single_flight import Batches, SingleFlight, settle


class Work:
    """Records the batches, and ends each when the test asks for it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.after: list[list[int]] = []
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, keys: list[int]) -> None:
        self.batches.append(keys)
        await self.release.wait()
        if self.error is not None:
            raise self.error

    def batches_of(self, *, size: int = 10, workers: int = 1, waiting: int = 100) -> Batches[int]:
        return Batches(self, self.after.append, size=size, workers=workers, waiting=waiting)


def wait(flights: SingleFlight[str, int], key: str) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    flights.wait(key, partial(settle, future))
    return future


async def ticks(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_lookup_is_started_once_and_resolves_for_all_waiters():
    flights: SingleFlight[str, int] = SingleFlight()
    assert flights.start("a")
    assert not flights.start("a")
    waiters = [wait(flights, "a") for _ in range(1000)]
    assert flights.resolve("a", 7)
    assert await asyncio.gather(*waiters) == [7] * 1000
    assert len(flights) == 0
    assert not flights.resolve("a", 8)


async def test_a_cancelled_waiter_fails_no_other():
    flights: SingleFlight[str, int] = SingleFlight()
    flights.start("a")
    first, second = wait(flights, "a"), wait(flights, "a")
    first.cancel()
    flights.resolve("a", 7)
    assert await second == 7


async def test_a_callback_that_fails_does_not_stop_the_others():
    flights: SingleFlight[str, int] = SingleFlight()
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    told: list[int] = []
    fault = KeyError("a fault")

    def fail(_: int) -> None:
        raise fault

    assert flights.wait("a", told.append)
    assert not flights.wait("a", fail)
    assert not flights.wait("a", told.append)
    assert flights.resolve("a", 7)
    assert told == [7, 7]
    assert [report["exception"] for report in reports] == [fault]


async def test_keys_of_one_event_loop_iteration_share_a_batch():
    work = Work()
    batches = work.batches_of()
    for key in range(5):
        assert batches.add(key)
    await ticks()
    assert work.batches == [[0, 1, 2, 3, 4]]
    work.release.set()
    await ticks()
    assert work.after == [[0, 1, 2, 3, 4]]


async def test_keys_collect_in_one_batch_while_all_workers_are_busy():
    work = Work()
    batches = work.batches_of(workers=2)
    for key in range(4):
        batches.add(key)
        await ticks()
    assert work.batches == [[0], [1]]
    work.release.set()
    await ticks(6)
    assert work.batches == [[0], [1], [2, 3]]


async def test_a_batch_has_at_most_its_size():
    work = Work()
    batches = work.batches_of(size=3, workers=5)
    for key in range(7):
        batches.add(key)
    await ticks()
    assert work.batches == [[0, 1, 2], [3, 4, 5], [6]]
    work.release.set()
    await ticks()


async def test_a_full_queue_refuses():
    work = Work()
    batches = work.batches_of(workers=1, waiting=2)
    batches.add(0)
    await ticks()
    assert [batches.add(key) for key in (1, 2, 3)] == [True, True, False]
    work.release.set()
    await ticks(6)
    assert work.batches == [[0], [1, 2]]


async def test_a_batch_that_fails_is_reported_and_does_not_stop_the_next():
    work = Work()
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    batches = work.batches_of()
    work.error = KeyError("a fault")
    batches.add(0)
    await ticks()
    batches.add(1)
    work.release.set()
    await ticks(6)
    assert work.after == [[0], [1]]
    assert [report["exception"] for report in reports] == [work.error, work.error]


@pytest.mark.parametrize("started", [True, False])
async def test_closing_resolves_all_waiters(started):
    work = Work()
    batches = work.batches_of()
    batches.add(0)
    if started:
        await ticks()
    batches.add(1)
    await batches.close()
    await ticks()
    assert sorted(key for keys in work.after for key in keys) == [0, 1]
