"""Whether somebody tries made-up codes: more unknown ones a second than anybody comes upon."""

import math

WINDOW_S = 1.0
"""Unknown codes are counted in windows of this length."""

CALM_S = 1.0
"""How long after its last unknown code too many a scan is taken to go on."""


class ScanDetector:
    """`note()` each unknown code; beyond `per_second` of them a scan is under way until `until`.

    Times are seconds of one clock, the caller's.
    """

    def __init__(self, per_second: int) -> None:
        self.until = -math.inf
        """A plain attribute, for the hot path to compare with."""
        self._most = per_second * WINDOW_S
        self._ends = -math.inf
        self._noted = 0

    def note(self, now: float) -> None:
        """Take note of an unknown code, refused or looked up."""
        if now >= self._ends:
            self._ends = now + WINDOW_S
            self._noted = 0
        self._noted += 1
        if self._noted > self._most:
            self.until = now + CALM_S
