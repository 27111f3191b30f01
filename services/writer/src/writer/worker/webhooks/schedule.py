"""When an event is delivered again: pauses that grow, for about a day in all."""

import random
from collections.abc import Sequence

PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 23_000)
"""Pauses after each failed attempt: the first of those that Standard Webhooks recommends, and a last
one that ends a day after the first attempt."""

MAX_RETRY_AFTER_S = 6 * 3600.0
"""The longest pause that a receiver can ask for by `Retry-After`."""

_JITTER = 0.1


def next_pause(
    attempts: int, retry_after_s: float | None = None, pauses_s: Sequence[float] = PAUSES_S
) -> float | None:
    """Return the seconds until the next attempt, or None if `attempts` was the last one.

    Jitter spreads the attempts of events that failed together. A receiver may ask for a longer
    pause, up to MAX_RETRY_AFTER_S, but not for a shorter one.
    """
    if attempts > len(pauses_s):
        return None
    pause = pauses_s[attempts - 1]
    longer = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(pause, longer) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # no secret
