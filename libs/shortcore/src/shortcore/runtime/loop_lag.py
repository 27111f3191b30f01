"""Measures the lag of the event loop: the time for which one task held it."""

import asyncio
import time
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Histogram

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S: Final = 0.25
"""Time between two measurements."""

HELD_S: Final = 0.5
"""Lag above which a line is logged: probes of the admin port and timeouts are then late, too."""

LOG_INTERVAL_S: Final = 10.0
"""Minimum time between two log lines, because the loop may be held many times in a row."""

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Sleeps for a fixed interval and measures how much later it wakes."""

    def __init__(self, registry: CollectorRegistry, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._lag = Histogram(
            "shortlinks_event_loop_lag_seconds",
            "Delay of a timer in the event loop, measured four times per second.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._logged_at = -LOG_INTERVAL_S
        self._unlogged = 0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + self._interval_s
            await asyncio.sleep(self._interval_s)
            now = time.monotonic()
            self.observe(max(0.0, now - due), now)

    def observe(self, lag_s: float, now: float) -> None:
        """Record a lag that was measured at `now`, in seconds of a monotonic clock."""
        self._lag.observe(lag_s)
        if lag_s <= HELD_S:
            return
        if now - self._logged_at < LOG_INTERVAL_S:
            self._unlogged += 1
            return
        log.warning("event loop held", lag_s=round(lag_s, 3), unlogged=self._unlogged)
        self._logged_at, self._unlogged = now, 0
