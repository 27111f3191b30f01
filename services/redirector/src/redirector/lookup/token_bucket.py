"""A token bucket, with a burst of the tokens of one second."""

from collections.abc import Callable


class TokenBucket:
    """Gives `per_second` tokens per second, and at most that many at once."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._clock = clock
        self._tokens = per_second
        self._at = clock()

    def take(self) -> bool:
        """Take a token; returns False if there is none."""
        now = self._clock()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
