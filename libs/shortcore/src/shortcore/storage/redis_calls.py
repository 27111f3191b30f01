"""Calls to Redis with a deadline and a circuit breaker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import ResponseError

from shortcore.errors import CacheUnavailable
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.dependency import Dependency
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS

T = TypeVar("T")


class RedisCalls:
    """Makes calls to one server (or cluster) of Redis, and remembers whether it answers."""

    def __init__(self, breaker: Breaker, timeout_ms: int) -> None:
        self.breaker = breaker
        self.last_error = ""
        self._timeout_s = timeout_ms / 1000
        self._answers = 0

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`.

        Raises CacheUnavailable after `timeout_ms` at the latest, and at once while the breaker is open.
        """
        if not self.breaker.allows():
            raise CacheUnavailable(f"Redis is not answering: {self.last_error}")
        answers = self._answers
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await call()
        except ResponseError as error:
            # A full server or a read-only replica refuses writes and still answers reads, so the
            # breaker stays closed.
            self._answered()
            self.last_error = f"{type(error).__name__}: {error}"
            raise CacheUnavailable(f"Redis refuses: {self.last_error}") from error
        except REDIS_UNAVAILABLE_ERRORS as error:
            timed_out = isinstance(error, TimeoutError)
            self.last_error = (
                f"no answer within {self._timeout_s * 1000:.0f} ms"
                if timed_out
                else f"{type(error).__name__}: {error}"
            )
            # If some calls wait too long for a connection while others are answered, this process
            # sends too many at once, and the server is up.
            if not timed_out or answers == self._answers:
                self.breaker.failed()
            raise CacheUnavailable(f"Redis is not answering: {self.last_error}") from error
        self._answered()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # redis-py sends within `asyncio.wait_for`, which swallows a cancellation that arrives
            # as the send ends (Python 3.11). The task that cancelled this one would wait for ever.
            raise asyncio.CancelledError
        return reply

    def check(self) -> Dependency:
        """Return the line of Redis for `/health`, from memory."""
        ok = self.breaker.state == 0
        return Dependency("redis", ok, "answering" if ok else self.last_error)

    def _answered(self) -> None:
        self._answers += 1
        self.breaker.succeeded()
