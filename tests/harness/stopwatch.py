"""How long something takes, also on a machine that does other work meanwhile."""

import time
from pathlib import Path
from typing import Self

_PRESSURE = Path("/proc/pressure/cpu")


class Stopwatch:
    """Runs from its making, or for the length of a `with` block.

    `seconds` leaves out the time in which some process of the machine had to wait for a processor:
    an upper bound of it holds on a busy machine, too. `wall_s` leaves out nothing and is for lower
    bounds. Where Linux's pressure figures are missing, both are the same.
    """

    def __init__(self) -> None:
        self._started = time.monotonic(), _stalled_s()
        self._ended: tuple[float, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic(), _stalled_s()

    @property
    def wall_s(self) -> float:
        """Seconds by the clock."""
        return (self._ended or (time.monotonic(), 0.0))[0] - self._started[0]

    @property
    def seconds(self) -> float:
        """Seconds without those in which a process waited for a processor."""
        now, stalled = self._ended or (time.monotonic(), _stalled_s())
        return max(0.0, now - self._started[0] - (stalled - self._started[1]))


def _stalled_s() -> float:
    if not _PRESSURE.exists():
        return 0.0
    return int(_PRESSURE.read_text().partition("total=")[2].split()[0]) / 1e6
