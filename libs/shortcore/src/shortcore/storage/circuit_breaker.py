"""A circuit breaker: a part that keeps failing is left alone for a while.

Closed: calls pass. After `failures` in a row it opens: calls are refused at once. After
`open_s` it lets one probe through (half-open); its success closes the breaker, its failure
opens it again. (Nygard, «Release It!», 2007.)
"""

import enum
from collections.abc import Callable


class State(enum.IntEnum):
    """The number is what `shortlinks_breaker_state` exports."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Ask `allows()` before a call; report `succeeded()` or `failed()` after it.

    Not a context manager on purpose: the hot path asks first and often does not call at all.
    """

    def __init__(self, *, failures: int, open_s: float, clock: Callable[[], float]) -> None:
        self.state = State.CLOSED
        self.opened_total = 0
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0

    def allows(self) -> bool:
        """Say whether a call may be made now; in half-open state only the probe may."""
        if self.state is State.CLOSED:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        # A probe whose caller dies without a report must not block all others for ever: the
        # next one may try after as long again.
        self.state = State.HALF_OPEN
        self._retry_at = now + self._open_s
        return True

    def succeeded(self) -> None:
        """Report an answer."""
        self._failures = 0
        self.state = State.CLOSED

    def failed(self) -> None:
        """Report a failure or a missed deadline."""
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._limit:
            if self.state is not State.OPEN:
                self.opened_total += 1
            self.state = State.OPEN
            self._retry_at = self._clock() + self._open_s
