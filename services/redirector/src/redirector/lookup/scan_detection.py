"""Detects code scanning: more requests for unknown codes per second than visitors make."""

import math

WINDOW_S = 1.0
"""Unknown codes are counted in windows of this length."""

CALM_S = 1.0
"""How long a scan lasts after the last unknown code above the limit."""


class ScanDetector:
    """Counts unknown codes; with more than `per_second`, a scan lasts until `until`.

    Times are seconds of the caller's clock.
    """

    def __init__(self, per_second: int) -> None:
        self.until = -math.inf
        """A plain attribute, for the hot path to compare with."""
        self._most = per_second * WINDOW_S
        self._ends = -math.inf
        self._noted = 0

    def note(self, now: float) -> None:
        """Count an unknown code, whether it was rejected or looked up."""
        if now >= self._ends:
            self._ends = now + WINDOW_S
            self._noted = 0
        self._noted += 1
        if self._noted > self._most:
            self.until = now + CALM_S
