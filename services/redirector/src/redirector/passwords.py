"""Checks the password of a link: Argon2 in a few threads, so that the redirects go on."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from redirector.throttle import Throttle
from shortcore.links import LinkKey

log = structlog.stdlib.get_logger(__name__)

_THREADS = 2
_WAITING = 32
"""Checks at work or waiting; each at work takes some 19 MiB and tens of milliseconds."""


class Verdict(Enum):
    """What became of an attempt."""

    RIGHT = "right"
    WRONG = "wrong"
    THROTTLED = "throttled"
    BUSY = "busy"
    """Too many checks at once: nothing was checked."""


class Passwords:
    """`check` counts every attempt against `throttle`, and forgives the right ones."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._under_way = 0

    async def check(self, key: LinkKey, address: str, password_hash: str, given: str) -> Verdict:
        """Compare `given` with the link's hash (in constant time, as Argon2 does)."""
        if self._under_way >= _WAITING:
            return Verdict.BUSY
        self._under_way += 1
        try:
            if not await self._throttle.attempt(key, address):
                return Verdict.THROTTLED
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._threads, self._fits, password_hash, given):
                return Verdict.WRONG
            await self._throttle.forgive(key, address)
            return Verdict.RIGHT
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password_hash: str, given: str) -> bool:
        try:
            return self._hasher.verify(password_hash, given)
        except InvalidHashError:
            log.error("a link's password hash is none of Argon2")  # noqa: TRY400  # the trace says no more
            return False
        except VerificationError:
            return False
