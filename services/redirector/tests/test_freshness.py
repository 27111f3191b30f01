"""A record from Redis is as fresh as the last heartbeat of a relay."""

import math

import pytest

from redirector.lookup.freshness import HEARTBEAT_GRACE_S, freshness

NOW = 1_000.0
TTL_S = 30.0


@pytest.mark.parametrize("ago", [0.0, 1.0, HEARTBEAT_GRACE_S])
def test_within_the_grace_period_a_record_is_as_fresh_as_its_read(ago):
    assert freshness(NOW, NOW - ago, TTL_S) == NOW


def test_a_heartbeat_after_the_read_makes_no_record_fresher_than_its_read():
    assert freshness(NOW, NOW + 5, TTL_S) == NOW


@pytest.mark.parametrize("ago", [2.5, 20.0, 31.9])
def test_after_the_grace_period_a_record_is_as_fresh_as_the_last_heartbeat(ago):
    assert freshness(NOW, NOW - ago, TTL_S) == NOW - ago + HEARTBEAT_GRACE_S


@pytest.mark.parametrize("ago", [TTL_S + HEARTBEAT_GRACE_S, 100.0, math.inf])
def test_a_record_that_would_be_past_its_ttl_needs_a_confirmation(ago):
    assert freshness(NOW, NOW - ago, TTL_S) is None


def test_a_shorter_ttl_needs_a_confirmation_sooner():
    assert freshness(NOW, NOW - 8, 5) is None
    assert freshness(NOW, NOW - 8, 30) == NOW - 6


def test_with_a_ttl_of_0_a_record_counts_within_the_grace_period_only():
    assert freshness(NOW, NOW, 0) == NOW
    assert freshness(NOW, NOW - 2.1, 0) is None
