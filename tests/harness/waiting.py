"""Wait for a condition instead of sleeping for luck."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], what: str, within_s: float = 10) -> float:
    """Wait for `condition`; returns the seconds it took, fails with `what` when too many."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"not within {within_s} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - started
