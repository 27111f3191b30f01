"""What the tests wait with and by: a failed wait says all that its reader needs."""

from datetime import UTC, datetime, timedelta

import pytest
from harness.clock import Clock
from harness.waiting import NotInTime, until, until_async


def test_a_wait_returns_the_first_true_value():
    seen = iter([0, "", None, 7])
    assert until(lambda: next(seen), "a value came") == 7


async def test_a_wait_in_the_event_loop_takes_coroutines_and_plain_conditions():
    seen = iter([0, 7])

    async def condition() -> int:
        return next(seen)

    assert await until_async(condition, "a value came") == 7
    assert await until_async(lambda: 8, "a value came") == 8


def test_a_failed_wait_says_what_for_how_long_and_what_was_seen_last():
    with pytest.raises(NotInTime, match=r"not within 0.02 s: all came; last value: \[\]\nthe log"):
        until(list, "all came", 0.02, details=lambda: "the log")


async def test_only_the_named_errors_are_tried_again():
    def refuse() -> int:
        raise ConnectionRefusedError("port 1")

    with pytest.raises(NotInTime, match=r"last error: ConnectionRefusedError\('port 1'\)"):
        await until_async(refuse, "it answers", 0.02, retry=(OSError,))
    with pytest.raises(ConnectionRefusedError):
        until(refuse, "it answers", retry=(ValueError,))


def test_both_clocks_advance_together():
    clock = Clock(datetime(2030, 1, 1, tzinfo=UTC))
    seconds, ms = clock(), clock.now_ms()
    clock.advance(1.5)
    clock.advance(days=1)
    assert clock.now() == datetime(2030, 1, 2, 0, 0, 1, 500_000, tzinfo=UTC)
    assert clock() - seconds == (clock.now_ms() - ms) / 1000 == 86_401.5
    clock.advance_to(clock.now() + timedelta(hours=1))
    assert clock() - seconds == 90_001.5
