"""Click capture: a request only appends to a buffer; everything else happens later, in batches.

ring buffer → (within 2 ms) parsed clicks → batches by size or time → streams. No redirect waits for
any of these steps. A click that finds the buffer or its stream full is dropped and counted:
`captured = sent + waiting + dropped{redis} + dropped{drain}`, and every answered redirect of a
link was captured or is in `dropped{ring}`.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from redirector.clicks.geo import GeoDatabase
from redirector.clicks.parsing import ClickParser, Headers, Peer
from redirector.clicks.stream import ClickStream
from redirector.client_address import ClientAddresses
from redirector.responses.responses import Response
from shortcore.cache.keys import CacheKeys
from shortcore.clicks.wire import partition_of
from shortcore.runtime.background import Background
from shortcore.runtime.metrics import FromMemory
from shortcore.runtime.turns import Turn
from shortcore.settings.redirector import RedirectorSettings
from shortcore.storage.redis import Client

Capture: TypeAlias = Callable[[Response, Any, str, str, Headers, Peer], None]
"""`capture(followed, method, host, target, headers, peer)`: `method`, `headers` and `peer` have the
server's types.

`method` is bytes or text; `host` is that of the domain; `target` is the path and the query as sent;
`peer` is (address, port).
"""

TICK_S = 0.002
"""How long a request's headers are kept at most.

Headers are forty times larger than a click. With 10 ms of them, the data that requests need was
evicted from the processor's cache.
"""

SLICE = 32
"""Clicks parsed between two checks of the time: of usual clicks, in 30 µs; of hostile ones, in 20 ms."""

SLICES = 8
"""Maximum slices in one turn of the event loop, which takes a third of a millisecond."""

DRAIN_S = 2.0
"""Maximum time to send the last clicks when the process ends."""


class ClickCapture:
    """Owns the ring buffer and the streams; call `capture` for each redirect."""

    def __init__(
        self,
        settings: RedirectorSettings,
        client: Client,
        keys: CacheKeys,
        client_addresses: ClientAddresses,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self.taken = 0
        self.dropped = {"ring": 0, "redis": 0, "drain": 0}
        self._ring: deque[tuple[Response, Any, str, str, Headers, Peer]] = deque()
        self._room = settings.clicks_ring_size
        self._now_ms = now_ms
        secret = settings.code_secret.get_secret_value().encode()
        self.geo = GeoDatabase(settings.geoip_database)
        self._parser = ClickParser(settings, secret, client_addresses, self.geo, now_ms())
        self._flush_s = settings.clicks_flush_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_seal: asyncio.Handle | None = None
        source = secrets.token_bytes(12)
        partitions = settings.clicks_partitions
        self.streams = [
            ClickStream(
                client,
                keys.clicks(partition),
                source=source,
                room=max(1, self._room // partitions),
                max_length=settings.clicks_stream_max_length,
                timeout_ms=settings.redis_timeout_ms,
            )
            for partition in range(partitions)
        ]
        self._enabled = settings.clicks_enabled
        self.capture: Capture = self._make_capture() if self._enabled else _ignore

    def _make_capture(self) -> Capture:
        ring, room, dropped = self._ring, self._room, self.dropped
        append, read_soon = ring.append, self._read_soon

        def capture(
            followed: Response, method: Any, host: str, target: str, headers: Headers, peer: Peer
        ) -> None:
            if not ring:
                read_soon()
            if len(ring) < room:
                append((followed, method, host, target, headers, peer))
            else:
                dropped["ring"] += 1

        return capture

    def start(self, background: Background) -> None:
        """Start to parse and send clicks, in tasks of `background`."""
        if not self._enabled:
            return
        self._loop = asyncio.get_running_loop()
        for stream in self.streams:
            stream.start(background)
        if self.geo.path is not None:
            background.run_forever("geoip", self.geo.watch(self._parser.forget_places))
        self._read_soon()
        self._seal()

    async def close(self) -> None:
        """Send the captured clicks within DRAIN_S, and count those that could not be sent."""
        if self._next_seal is not None:
            self._next_seal.cancel()
        while self._ring:
            self._read(SLICE)
        given_up = await asyncio.gather(*(stream.close(DRAIN_S) for stream in self.streams))
        self.dropped["drain"] += sum(given_up)

    def export(self, memory: FromMemory) -> None:
        """Add the metrics of click capture."""
        memory.counter(
            "shortlinks_clicks_captured",
            "Clicks put into the ring buffer",
            lambda: self.taken + len(self._ring),
        )
        memory.counter(
            "shortlinks_clicks_sent",
            "Clicks confirmed by Redis",
            lambda: sum(stream.sent for stream in self.streams),
        )
        memory.counter(
            "shortlinks_clicks_dropped",
            "Clicks dropped: ring buffer full, Redis down too long, or not sent before the process ended",
            lambda: self.dropped,
            "reason",
        )
        memory.gauge(
            "shortlinks_clicks_ring_fill",
            "Fill level of the ring buffer, 0 to 1",
            lambda: len(self._ring) / self._room,
        )
        memory.gauge(
            "shortlinks_clicks_waiting",
            "Clicks that Redis has not confirmed yet",
            lambda: sum(stream.waiting for stream in self.streams),
        )

        self.geo.export(memory)

    def _read_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_later(TICK_S, self._turn)

    def _turn(self) -> None:
        turn = Turn()
        try:
            for _ in range(SLICES):
                self._read(SLICE)
                if not self._ring or turn.over:
                    break
        finally:  # an error must not end the parsing for ever
            if self._ring:
                asyncio.get_running_loop().call_soon(self._turn)

    def _seal(self) -> None:
        if self._loop is not None:
            self._next_seal = self._loop.call_later(self._flush_s, self._seal)
        for stream in self.streams:
            stream.seal()

    def _read(self, most: int) -> None:
        ring, streams = self._ring, self.streams
        partitions = len(streams)
        number = min(most, len(ring))
        if not number:
            return
        self.taken += number
        at_ms = self._now_ms()
        self._parser.begin(at_ms)
        click = self._parser.click
        for _ in range(number):
            followed, method, host, target, headers, peer = ring.popleft()
            stream = streams[partition_of(followed.link_id, partitions)]
            if stream.full:
                self.dropped["redis"] += 1
                continue
            stream.put(click(followed, method, host, target, headers, peer, at_ms))


def _ignore(
    followed: Response, method: Any, host: str, target: str, headers: Headers, peer: Peer
) -> None:
    """Capture nothing: click capture is disabled."""
