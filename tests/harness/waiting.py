"""Waits for a condition instead of sleeping for luck."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN_S = 30.0
"""Enough on a machine that does much else; a condition that holds ends the wait at once."""

EVERY_S = 0.01


class NotInTime(AssertionError):
    """A condition did not come true; says what was waited for, how long, and what was last seen."""


def until(
    condition: Callable[[], T],
    what: str,
    within_s: float = WITHIN_S,
    *,
    every_s: float = EVERY_S,
    retry: tuple[type[Exception], ...] = (),
    details: Callable[[], str] | None = None,
) -> T:
    """Call `condition` until it returns a true value; returns that value.

    `what` says what the condition means, as in «the outbox is empty». Errors of the classes `retry` count as not yet
    true; any other ends the wait. Raises NotInTime, which ends with `details` (a log, perhaps).
    """
    started = time.monotonic()
    while True:
        late = time.monotonic() - started > within_s  # asked before the last look, not after it
        seen: object
        try:
            seen = value = condition()
            if value:
                return value
        except retry as error:
            seen = error
        if late:
            raise NotInTime(_explain(what, within_s, seen, details))
        time.sleep(every_s)


async def until_async(
    condition: Callable[[], T | Awaitable[T]],
    what: str,
    within_s: float = WITHIN_S,
    *,
    every_s: float = EVERY_S,
    retry: tuple[type[Exception], ...] = (),
    details: Callable[[], str] | None = None,
) -> T:
    """Do as `until` does, and let the event loop run meanwhile; `condition` may be a coroutine."""
    started = time.monotonic()
    while True:
        late = time.monotonic() - started > within_s
        seen: object
        try:
            answer = condition()
            seen = value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
        except retry as error:
            seen = error
        if late:
            raise NotInTime(_explain(what, within_s, seen, details))
        await asyncio.sleep(every_s)


def _explain(what: str, within_s: float, seen: object, details: Callable[[], str] | None) -> str:
    kind = "error" if isinstance(seen, Exception) else "value"
    text = f"not within {within_s:g} s: {what}; last {kind}: {seen!r}"
    return text if details is None else f"{text}\n{details()}"
