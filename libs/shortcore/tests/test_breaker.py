"""When a breaker lets calls pass."""

import pytest

from shortcore.storage.circuit_breaker import Breaker, State


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, open_s=1.0, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.allows()
        breaker.failed()


def test_failures_in_a_row_open_it_and_calls_are_refused(breaker, clock):
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert not breaker.allows()
    clock.now += 0.999
    assert not breaker.allows()


def test_an_answer_in_between_starts_the_count_again(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_after_its_time_exactly_one_probe_passes(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert breaker.state is State.HALF_OPEN


def test_a_probe_that_is_answered_closes_it(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert breaker.allows()


def test_one_failed_probe_opens_it_again(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert breaker.opened_total == 2
    assert not breaker.allows()


def test_a_probe_without_a_report_does_not_block_the_others_for_ever(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    assert breaker.allows()  # and its caller is cancelled
    assert not breaker.allows()
    clock.now += 1
    assert breaker.allows()


def test_late_failures_of_calls_made_before_do_not_count_as_opening_twice(breaker):
    fail(breaker, 3)
    breaker.failed()
    assert breaker.opened_total == 1
