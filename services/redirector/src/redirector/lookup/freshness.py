"""Decides whether a record in Redis is current: it is while relays send heartbeats."""

import math
from dataclasses import dataclass

HEARTBEAT_GRACE_S = 2.0
"""Grace period after the last relay heartbeat; relays send one about once per second."""


@dataclass(slots=True)
class RelayHeartbeat:
    """A time after which a relay has written to Redis; `Invalidation` sets it, `Lookup` reads it.

    Times are seconds of the redirector's clock.
    """

    last_heartbeat_at: float = -math.inf


def freshness(read_at: float, heartbeat_at: float, ttl_s: float) -> float | None:
    """Return the time at which a record was certainly current; it was read from Redis at `read_at`.

    A Redis that is full, or has become a replica, still answers but misses changes. So after the
    grace period, a record is only as fresh as the last heartbeat. None means that the record is
    older than `ttl_s` by then, and PostgreSQL must confirm it.
    """
    as_of = min(read_at, heartbeat_at + HEARTBEAT_GRACE_S)
    behind = read_at - as_of
    return None if behind and behind >= ttl_s else as_of
