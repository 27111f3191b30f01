"""A circuit breaker: it refuses calls to a dependency that keeps failing.

Closed: calls pass. After `failures` consecutive failures it opens: calls are refused at once. After
`open_s` it lets one probe through (half-open). A successful probe closes the breaker, a failed one opens
it again. (Nygard, "Release It!", 2007.)
"""

import enum
from collections.abc import Callable


class State(enum.IntEnum):
    """The state of a breaker; the metric `shortlinks_breaker_state` exports the number."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Call `allows()` before a call to the dependency, and `succeeded()` or `failed()` after it.

    It is not a context manager, as some callers check first and then make no call.
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
        """Return whether a call may be made now; in the half-open state this is the probe."""
        if self.state is State.CLOSED:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        # If the caller of a probe ends without a report, another probe is allowed after `open_s`.
        # Otherwise the breaker would stay open for ever.
        self.state = State.HALF_OPEN
        self._retry_at = now + self._open_s
        return True

    def succeeded(self) -> None:
        """Report that the dependency answered."""
        self._failures = 0
        self.state = State.CLOSED

    def failed(self) -> None:
        """Report a failure or a timeout."""
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._limit:
            if self.state is not State.OPEN:
                self.opened_total += 1
            self.state = State.OPEN
            self._retry_at = self._clock() + self._open_s
