"""Sends clicks to one Redis stream, one batch after another, from a bounded queue.

A batch that fails is sent again. `shortcore.clicks.wire` explains why the order of the batches makes
a repeated batch harmless.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from shortcore.clicks.wire import FIELD, Row, encode_rows
from shortcore.runtime.background import Background
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)

BATCH = 500
"""Maximum clicks in one stream entry."""

ENTRY_BYTES = 30_000
"""Maximum bytes of a stream entry with more than one click: the memory of a stream is its maximum number
of entries times this."""

CLICK_BYTES = 300
"""Average bytes of the clicks that wait: usual clicks in large batches have 40, a batch of one click has 250."""

ENTRY_OVERHEAD = 60
"""Bytes that Redis needs for a stream entry besides its data, at most."""

MEAN_OF = 64
"""Number of recent batches whose mean size decides how many entries a stream may have."""

RETRY_S = 0.25
"""Retry interval: while Redis is down, each stream makes four calls per second."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    payload: bytes
    size: int


class ClickStream:
    """Sends clicks, and holds `room` of them at most, or fewer if they are large (`CLICK_BYTES`).

    The stream in Redis keeps `max_length` entries of ENTRY_BYTES, or proportionally more if they are
    smaller. So its memory is bounded, and with little traffic it holds the clicks of a long outage.

    `sent` counts clicks that Redis has confirmed, `waiting` those that it has not confirmed yet. `full`
    says that no more clicks may be put.
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
        self._room = room
        self.waiting = 0
        self.sent = 0
        self._client = client
        self._source = source
        self._max_bytes = max_length * ENTRY_BYTES
        self._mean_bytes = 0.0
        self._timeout_s = timeout_ms / 1000
        self._number = 0
        self.full = False
        self._sealed_bytes = 0
        self._batch = BATCH
        self._open: list[Row] = []
        self._sealed: deque[_Sealed] = deque()
        self._wake = asyncio.Event()
        self._ending = False
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def start(self, background: Background) -> None:
        """Start to send, in a task of `background`."""
        self._task = background.run_forever("clicks", self._run())

    def put(self, click: Row) -> None:
        """Add a click; the caller has checked that the stream is not `full`."""
        self.waiting += 1
        self._open.append(click)
        if len(self._open) >= self._batch:
            self.seal()
        if self.waiting >= self._room:
            self.full = True

    def seal(self) -> None:
        """Close the current batch, so that it is sent."""
        if self._open:
            clicks, self._open = self._open, []
            self._seal(clicks)
            self._wake.set()

    def _seal(self, clicks: list[Row]) -> None:
        size = len(clicks)
        payload = encode_rows(self._source, self._number + 1, clicks)
        # Batches are similar: the next one will rarely have to be encoded again.
        self._batch = min(BATCH, max(1, ENTRY_BYTES * size // len(payload)))
        if len(payload) > ENTRY_BYTES and size > 1:
            self._seal(clicks[: size // 2])
            self._seal(clicks[size // 2 :])
            return
        self._number += 1
        self._sealed.append(_Sealed(payload, size))
        self._sealed_bytes += len(payload)
        self._note_room()

    def _note_room(self) -> None:
        self.full = self.waiting >= self._room or self._sealed_bytes >= CLICK_BYTES * self._room

    async def close(self, deadline_s: float) -> int:
        """Send the remaining clicks within `deadline_s`; returns how many could not be sent."""
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
                self._sealed_bytes -= len(batch.payload)
                self._note_room()
            else:
                await asyncio.sleep(RETRY_S)

    def _max_entries(self, payload: bytes) -> int:
        """Return how many entries the stream may have with `payload`, from the mean of their sizes."""
        size = len(payload) + ENTRY_OVERHEAD
        # A single large batch among small ones must not trim clicks that nobody has counted.
        self._mean_bytes += (size - self._mean_bytes) / (MEAN_OF if self._mean_bytes else 1)
        return max(1, int(self._max_bytes / self._mean_bytes))

    async def _send(self, batch: _Sealed) -> bool:
        max_entries = self._max_entries(batch.payload)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.xadd(
                    self.name, {FIELD: batch.payload}, maxlen=max_entries, approximate=True
                )
        except REDIS_UNAVAILABLE_ERRORS as error:
            if not self._away:
                log.warning(
                    "clicks could not be sent to Redis; retrying",
                    stream=self.name,
                    error=str(error),
                )
            self._away = True
            return False
        self._away = False
        return True
