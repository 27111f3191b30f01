"""Counts requests whose host belongs to no domain, and warns when there are many.

A proxy that rewrites Host, or a missing domain, shows up here first.
"""

from collections.abc import Callable

import structlog

log = structlog.stdlib.get_logger(__name__)

MANY = 100
"""Requests within `WINDOW_S` that cause a warning: scanners send a few to every address."""

WINDOW_S = 60.0
"""Minimum interval between two warnings, in seconds."""

SAMPLE_LENGTH = 64
"""Characters of a host that a warning shows."""


class UnknownHosts:
    """Counts by `note()`; `total` is for the metrics. Times are seconds of `clock`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.total = 0
        self._clock = clock
        self._began = clock()
        self._noted = 0
        self._silent_until = self._began

    def note(self, host: str) -> None:
        """Count one request for `host`, which any client can choose freely."""
        self.total += 1
        now = self._clock()
        if self._noted < MANY and now - self._began >= WINDOW_S:
            self._began, self._noted = now, 0
        self._noted += 1
        if self._noted < MANY or now < self._silent_until:
            return
        log.warning(
            "requests for unknown hosts: a proxy may rewrite Host, or a domain may be missing",
            requests=self._noted,
            seconds=round(now - self._began, 1),
            host=shown(host),
        )
        self._began, self._noted = now, 0
        self._silent_until = now + WINDOW_S


def shown(host: str) -> str:
    """Return `host` cut to `SAMPLE_LENGTH`, with `?` for all but printable ASCII."""
    cut = host[:SAMPLE_LENGTH]
    clean = "".join(each if "!" <= each <= "~" else "?" for each in cut)
    return clean + "..." if len(host) > SAMPLE_LENGTH else clean
