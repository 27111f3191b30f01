"""When a circuit breaker allows calls."""

import pytest
from harness.clock import Clock

from shortcore.storage.circuit_breaker import Breaker, State


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


def test_consecutive_failures_open_the_breaker_and_calls_are_refused(breaker, clock):
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert not breaker.allows()
    clock.advance(0.999)
    assert not breaker.allows()


def test_a_success_resets_the_count_of_failures(breaker):
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_after_the_open_time_exactly_one_probe_passes(breaker, clock):
    fail(breaker, 3)
    clock.advance(1)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    assert breaker.state is State.HALF_OPEN


def test_a_successful_probe_closes_the_breaker(breaker, clock):
    fail(breaker, 3)
    clock.advance(1)
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert breaker.allows()


def test_a_failed_probe_opens_the_breaker_again(breaker, clock):
    fail(breaker, 3)
    clock.advance(1)
    fail(breaker, 1)
    assert breaker.state is State.OPEN
    assert breaker.opened_total == 2
    assert not breaker.allows()


def test_a_probe_without_a_report_does_not_block_later_probes(breaker, clock):
    fail(breaker, 3)
    clock.advance(1)
    assert breaker.allows()  # and its caller is cancelled
    assert not breaker.allows()
    clock.advance(1)
    assert breaker.allows()


def test_late_failures_do_not_count_as_opening_twice(breaker):
    fail(breaker, 3)
    breaker.failed()
    assert breaker.opened_total == 1
