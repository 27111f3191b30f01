"""The way of clicks into one stream of Redis: batches, one after another, within bounds.

What Redis does not take is kept and tried again, as far as there is room. See `shortcore.clicks.wire`
for why the order of the batches makes a repeated one harmless.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from shortcore.clicks.wire import FIELD, Click, ClickBatch, encode_batch
from shortcore.runtime.background import Background
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)

BATCH = 500
"""Clicks in one entry at the most."""

RETRY_S = 0.25
"""Between two tries: a Redis that is away costs four calls a second and stream."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    payload: bytes
    size: int


class ClickStream:
    """Sends the clicks that are put in; holds `room` of them at the most.

    `sent` counts clicks that Redis has confirmed; `waiting` those that it has not.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        source: bytes,
        room: int,
        max_length: int,
        timeout_ms: int,
    ) -> None:
        self.name = name
        self.room = room
        self.waiting = 0
        self.sent = 0
        self._client = client
        self._source = source
        self._max_length = max_length
        self._timeout_s = timeout_ms / 1000
        self._number = 0
        self._open: list[Click] = []
        self._sealed: deque[_Sealed] = deque()
        self._wake = asyncio.Event()
        self._ending = False
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def start(self, background: Background) -> None:
        """Send from now on, in a task of `background`."""
        self._task = background.run_forever("clicks", self._run())

    def put(self, click: Click) -> None:
        """Add a click; the caller has looked whether `waiting` is below `room`."""
        self.waiting += 1
        self._open.append(click)
        if len(self._open) >= BATCH:
            self.seal()

    def seal(self) -> None:
        """Let what was put in so far be sent."""
        if self._open:
            self._number += 1
            batch = ClickBatch(self._source, self._number, self._open)
            self._sealed.append(_Sealed(encode_batch(batch), len(self._open)))
            self._open = []
            self._wake.set()

    async def close(self, deadline_s: float) -> int:
        """Send what is left within `deadline_s`; returns how many clicks were given up."""
        self.seal()
        self._ending = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=deadline_s)
            await end_tasks([self._task])
        given_up, self.waiting = self.waiting, 0
        self._sealed.clear()
        return given_up

    async def _run(self) -> None:
        while self._sealed or not self._ending:
            if not self._sealed:
                self._wake.clear()
                await self._wake.wait()
            elif await self._send(self._sealed[0]):
                batch = self._sealed.popleft()
                self.waiting -= batch.size
                self.sent += batch.size
            else:
                await asyncio.sleep(RETRY_S)

    async def _send(self, batch: _Sealed) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.xadd(
                    self.name, {FIELD: batch.payload}, maxlen=self._max_length, approximate=True
                )
        except REDIS_UNAVAILABLE_ERRORS as error:
            if not self._away:
                log.warning("clicks wait for Redis", stream=self.name, error=str(error))
            self._away = True
            return False
        self._away = False
        return True
