"""Runs a writer that measures the CPU time of each piece of work in its event loop.

Lag by the clock is noise on a busy machine: this counts what the loop's own thread used between
two turns, which is how long the loop would be held on a core of its own.
"""

import asyncio
import time

from prometheus_client import CollectorRegistry

from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.metrics import FromMemory
from writer import main
from writer.app import process

HELD = "test_event_loop_held_cpu_seconds"
"""Gauge: the longest piece of work since it was read last."""


class CpuTime(LoopLag):
    """Measures CPU time a thousand times a second, beside the lag."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._longest = 0.0
        figures = FromMemory()
        figures.gauge(HELD, "Longest piece of work in the event loop.", self._take)
        registry.register(figures)

    async def watch(self) -> None:
        """Measure until cancelled."""
        lag = asyncio.create_task(super().watch())
        try:
            while True:
                began = time.thread_time()
                await asyncio.sleep(0.001)
                self._longest = max(self._longest, time.thread_time() - began)
        finally:
            lag.cancel()

    def _take(self) -> float:
        longest, self._longest = self._longest, 0.0
        return longest


if __name__ == "__main__":
    process.LoopLag = CpuTime  # type: ignore[misc]
    main.main(["serve"])
