"""Checks the password of a link with Argon2 in a few threads, in a fair order.

A check waits in a bounded queue (`turns`). Each link with waiting checks has one task, which takes
the next one, counts it against the client (`rate_limit`), waits for the link's slot (`pacer`) and
for a thread, and runs it. Threads are assigned in the order in which links wait, so a link whose
password is being guessed gets one check per round, however long its queue is.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import Histogram

from redirector.passwords.pacer import Pacer
from redirector.passwords.rate_limit import RateLimit
from redirector.passwords.turns import Limits, Place, Turns
from shortcore.http.networks import client_of, network_of
from shortcore.links.passwords import normalise_password
from shortcore.links.record import LinkKey
from shortcore.runtime.metrics import FromMemory

log = structlog.stdlib.get_logger(__name__)

PER_NETWORK = 32
PER_CLIENT = 8
"""Maximum waiting checks of one link, for one network and for one client."""

WAIT_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)

_NICE = 10
_LOG_EVERY_S = 60.0


class Verdict(Enum):
    """The result of an attempt."""

    RIGHT = "right"
    WRONG = "wrong"
    THROTTLED = "throttled"
    """Too many wrong passwords of this client: nothing was checked."""
    BUSY = "busy"
    """The queue is full, the wait timed out, or the process stops: nothing was checked."""


@dataclass(eq=False, slots=True)
class _Attempt:
    key: LinkKey
    place: Place
    address: str
    password_hash: str
    given: str
    since: float
    verdict: "asyncio.Future[Verdict]"
    running: bool = False


class Passwords:
    """Checks passwords in a fair order, and counts wrong passwords."""

    def __init__(
        self,
        rate_limit: RateLimit,
        pacer: Pacer,
        *,
        concurrency: int,
        queue_size: int,
        link_queue_size: int,
        wait_ms: int,
        waited: Histogram,
        clock: Callable[[], float],
    ) -> None:
        self.results = dict.fromkeys((
            "right", "wrong", "client_limit", "queue_full", "timeout", "abandoned", "failed",
            "shutdown",
        ), 0)  # fmt: skip
        self.slowed = 0
        self._rate_limit = rate_limit
        self._pacer = pacer
        self._clock = clock
        self._wait_s = wait_ms / 1000
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(
            concurrency, thread_name_prefix="argon2", initializer=_yield_to_the_event_loop
        )
        self._free = asyncio.Semaphore(concurrency)
        self._turns: Turns[_Attempt] = Turns(
            Limits(queue_size, link_queue_size, PER_NETWORK, PER_CLIENT)
        )
        self._links: dict[LinkKey, asyncio.Task[None]] = {}
        self._waiting: set[_Attempt] = set()
        self._stopping = False
        self._log_at = 0.0
        self._waited = waited

    async def check(self, key: LinkKey, address: str, password_hash: str, given: str) -> Verdict:
        """Compare `given` with the link's hash (in constant time, as Argon2 does)."""
        if self._stopping:
            self.results["shutdown"] += 1
            return Verdict.BUSY
        if self._rate_limit.is_spent(key, address):
            self.results["client_limit"] += 1
            return Verdict.THROTTLED
        loop = asyncio.get_running_loop()
        place = Place(key, network_of(address), client_of(address))
        attempt = _Attempt(
            key, place, address, password_hash, given, self._clock(), loop.create_future()
        )
        dropped = self._turns.put(place, attempt)
        if dropped is not None:
            self._end(dropped, Verdict.BUSY, "queue_full")
        if key not in self._links and len(self._turns):
            self._links[key] = loop.create_task(self._serve(key))
        timer = loop.call_later(self._wait_s, self._expire, attempt, "timeout")
        self._waiting.add(attempt)
        try:
            return await attempt.verdict
        except asyncio.CancelledError:
            self.results["abandoned"] += 1
            raise
        finally:
            timer.cancel()
            self._waiting.discard(attempt)
            self._turns.remove(place, attempt)

    def __len__(self) -> int:
        """Return how many checks wait in the queue."""
        return len(self._turns)

    def export(self, memory: FromMemory) -> None:
        """Add the metrics of password checks."""
        memory.counter(
            "shortlinks_password_attempts",
            "Passwords that visitors sent, by result",
            lambda: self.results,
            "result",
        )
        memory.counter(
            "shortlinks_password_slowed",
            "Password checks that waited for the limit of their link",
            lambda: self.slowed,
        )
        memory.gauge(
            "shortlinks_password_waiting", "Password checks that wait in the queue", self.__len__
        )

    def refuse_waiting(self) -> None:
        """End every check that has not begun, and refuse new ones.

        Otherwise they could wait beyond the end of the process (`password_wait_ms`,
        `drain_timeout_ms`).
        """
        self._stopping = True
        for attempt in tuple(self._waiting):
            self._expire(attempt, "shutdown")

    async def close(self) -> None:
        """Stop the tasks and the threads; waiting passwords are not checked."""
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, key: LinkKey) -> None:
        try:
            while (attempt := self._turns.take(key)) is not None:
                try:
                    await self._decide(attempt)
                except Exception:  # an error must not stop the checks in the queue
                    log.exception("a password check failed")
                finally:
                    self._end(attempt, Verdict.BUSY, "failed")
        finally:
            del self._links[key]
            while (attempt := self._turns.take(key)) is not None:  # at the end of the process
                self._end(attempt, Verdict.BUSY, "failed")

    async def _decide(self, attempt: _Attempt) -> None:
        key, address = attempt.key, attempt.address
        if not await self._rate_limit.attempt(key, address):
            self._end(attempt, Verdict.THROTTLED, "client_limit")
            return
        wait_s = await self._pacer.book(key)
        if wait_s > 0:
            self._note_slowed(key)
            await asyncio.sleep(wait_s)
        async with self._free:
            if attempt.verdict.done():
                return
            attempt.running = True
            self._waited.observe(self._clock() - attempt.since)
            right = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._fits, attempt.password_hash, attempt.given
            )
        if not right:
            self._end(attempt, Verdict.WRONG, "wrong")
            return
        self._end(attempt, Verdict.RIGHT, "right")
        await self._rate_limit.forgive(key, address)
        await self._pacer.give_back(key)

    def _expire(self, attempt: _Attempt, result: str) -> None:
        if not attempt.running:
            self._end(attempt, Verdict.BUSY, result)

    def _end(self, attempt: _Attempt, verdict: Verdict, result: str) -> None:
        if not attempt.verdict.done():
            self.results[result] += 1
            attempt.verdict.set_result(verdict)

    def _note_slowed(self, key: LinkKey) -> None:
        self.slowed += 1
        now = self._clock()
        if now >= self._log_at:  # any client can cause it
            self._log_at = now + _LOG_EVERY_S
            log.warning("passwords of a link are being guessed", link=key, waiting=len(self))

    def _fits(self, password_hash: str, given: str) -> bool:
        normal = normalise_password(given)
        # Hashes that were made before passwords were normalised hold the text as it was sent.
        texts = (normal,) if normal == given else (normal, given)
        return any(self._verify(password_hash, text) for text in texts)

    def _verify(self, password_hash: str, text: str) -> bool:
        try:
            return self._hasher.verify(password_hash, text)
        except InvalidHashError:
            log.error("a link's password hash is none of Argon2")  # noqa: TRY400  # the traceback adds nothing
            return False
        except VerificationError:
            return False


def _yield_to_the_event_loop() -> None:
    # Linux has a niceness per thread: while both are ready to run, redirects go first.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
