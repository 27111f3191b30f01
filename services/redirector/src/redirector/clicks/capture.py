"""Click capture: a request pays one append; everything else happens in batches, off its way.

ring (as the server gave it) → within 2 ms read into clicks → batches by size or time → streams.
No redirect waits for any of it. What finds no room is dropped and counted:
`captured = sent + waiting + dropped{redis} + dropped{drain}`, and every answered redirect of a
link was captured or is in `dropped{ring}`.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from redirector.clicks.stream import ClickStream
from redirector.clicks.user_agent import MAX_AGENT, agent_class, is_prefetch, referrer_host
from redirector.client_address import ClientAddresses
from shortcore.cache.keys import CacheKeys
from shortcore.clicks.wire import DAY_MS, Click, Flag, Visitors, partition_of
from shortcore.links.record import LinkRecord
from shortcore.runtime.background import Background
from shortcore.runtime.metrics import FromMemory
from shortcore.settings import RedirectorSettings
from shortcore.storage.redis import Client

Headers: TypeAlias = list[tuple[bytes, bytes]]
Peer: TypeAlias = "tuple[str, int] | None"
Capture: TypeAlias = Callable[[LinkRecord, Any, Headers, Peer, int], None]
"""`capture(record, method, headers, peer, flags)`: the last four as the server gives them.

`method` is bytes or text; `peer` is (address, port).
"""

TICK_S = 0.002
"""How long a request's headers are kept at the most. They are forty times larger than a click: those
of 10 ms drove all else that requests need from the processor's cache."""

SLICE = 256
"""Clicks that are read before requests get their turn again: a third of a millisecond."""

DRAIN_S = 2.0
"""What the end of the process may wait for Redis."""

_REMEMBERED = 4096
"""Entries of each memo; a full one is emptied, so that nobody can fill the memory with it."""
_MAX_NAME = 64
_MAX_FORWARDED = 256
_MAX_REFERRER = 256

_AGENT, _REFERRER, _FORWARDED, _PURPOSE = 1, 2, 3, 4
_PARTS = {
    "user-agent": _AGENT,
    "referer": _REFERRER,
    "x-forwarded-for": _FORWARDED,
    "sec-purpose": _PURPOSE,
    "purpose": _PURPOSE,
    "x-purpose": _PURPOSE,
    "x-moz": _PURPOSE,
}
_HEADS = frozenset({"HEAD", b"HEAD"})

# Plain numbers: an operation on an enum's members costs more than all the rest of a click.
_BOT, _HEAD, _PREFETCH = int(Flag.BOT), int(Flag.HEAD), int(Flag.PREFETCH)


class ClickCapture:
    """Owns the ring and the streams; `capture` is what the redirector calls for a redirect."""

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
        self._ring: deque[tuple[LinkRecord, Any, Any, Any, int]] = deque()
        self._room = settings.clicks_ring_size
        self._secret = settings.code_secret.get_secret_value().encode()
        self._client_addresses = client_addresses
        self._now_ms = now_ms
        self._visitors = Visitors(self._secret, now_ms() // DAY_MS)
        self._flush_s = settings.clicks_flush_ms / 1000
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_seal: asyncio.Handle | None = None
        self._names: dict[Any, int] = {}
        self._agents: dict[bytes, tuple[str, int]] = {}
        self._hosts: dict[bytes, str] = {}
        self._origins: dict[tuple[Any, bytes], bytes] = {}
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
            record: LinkRecord, method: Any, headers: Headers, peer: Peer, flags: int = 0
        ) -> None:
            if not ring:
                read_soon()
            if len(ring) < room:
                append((record, method, headers, peer, flags))
            else:
                dropped["ring"] += 1

        return capture

    def start(self, background: Background) -> None:
        """Take clicks up from now on; `background` runs the tasks that send them."""
        if not self._enabled:
            return
        self._loop = asyncio.get_running_loop()
        for stream in self.streams:
            stream.start(background)
        self._read_soon()
        self._seal()

    async def close(self) -> None:
        """Send what was captured, within DRAIN_S; count what could not be sent."""
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
            "RedirectService that went into the ring",
            lambda: self.taken + len(self._ring),
        )
        memory.counter(
            "shortlinks_clicks_sent",
            "Clicks that Redis has confirmed",
            lambda: sum(stream.sent for stream in self.streams),
        )
        memory.counter(
            "shortlinks_clicks_dropped",
            "Clicks that are lost: no room in the ring, Redis away too long, or at the end",
            lambda: self.dropped,
            "reason",
        )
        memory.gauge(
            "shortlinks_clicks_ring_fill",
            "Share of the ring that is taken, 0 to 1",
            lambda: len(self._ring) / self._room,
        )
        memory.gauge(
            "shortlinks_clicks_waiting",
            "Clicks in batches that Redis has not confirmed",
            lambda: sum(stream.waiting for stream in self.streams),
        )

    def _read_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_later(TICK_S, self._turn)

    def _turn(self) -> None:
        try:
            self._read(SLICE)
        finally:  # a fault in one turn must not be the last turn
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
        if at_ms // DAY_MS != self._visitors.day:
            self._visitors = Visitors(self._secret, at_ms // DAY_MS)
            self._origins.clear()
        known = self._agents.get
        for _ in range(number):
            record, method, headers, peer, given = ring.popleft()
            link_id = record.link_id
            stream = streams[partition_of(link_id, partitions)]
            if stream.waiting >= stream.room:
                self.dropped["redis"] += 1
                continue
            agent, referrer, forwarded, seen = self._fields(headers)
            kind, bot = known(agent) or self._classify(agent)
            flags = given | seen | bot | (_HEAD if method in _HEADS else 0)
            origin = self._origin(peer, forwarded)
            stream.put(Click(link_id, at_ms, flags, referrer, kind, origin))

    def _fields(self, headers: Headers) -> tuple[bytes, str, bytes, int]:
        """Return user agent, referrer's host, X-Forwarded-For, and PREFETCH or 0."""
        agent = forwarded = b""
        referrer = ""
        flags = 0
        names = self._names.get
        for name, text in headers:
            part = names(name)
            if part is None:
                part = self._learn(name)
            if part:
                if part == _AGENT:
                    agent = text
                elif part == _REFERRER:
                    referrer = self._hosts.get(text) or self._host_of(text)
                elif part == _FORWARDED:  # several fields are one list (RFC 9110, 5.3)
                    forwarded = forwarded + b"," + text if forwarded else text
                elif is_prefetch(text):
                    flags = _PREFETCH
        return agent, referrer, forwarded, flags

    def _learn(self, name: bytes) -> int:
        # Servers give names as they were sent; a dictionary of the spellings seen is faster than
        # lowering every name of every request.
        part = _PARTS.get(name.decode("latin-1").lower(), 0)
        if len(name) <= _MAX_NAME:
            _remember(self._names, name, part)
        return part

    def _host_of(self, referrer: bytes) -> str:
        host = referrer_host(referrer)
        if len(referrer) <= _MAX_REFERRER:
            _remember(self._hosts, referrer, host)
        return host

    def _classify(self, agent: bytes) -> tuple[str, int]:
        kind = agent_class(agent)
        found = kind, _BOT if kind == "bot" else 0
        if len(agent) <= MAX_AGENT:
            _remember(self._agents, agent, found)
        return found

    def _origin(self, peer: Peer, forwarded: bytes) -> bytes:
        host = peer[0] if peer else None
        key = host, forwarded
        origin = self._origins.get(key)
        if origin is None:
            origin = self._visitors.name(
                self._client_addresses.address(host, forwarded.decode("latin-1"))
            )
            if len(forwarded) <= _MAX_FORWARDED:
                _remember(self._origins, key, origin)
        return origin


def _remember(memo: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memo) >= _REMEMBERED:
        memo.clear()
    memo[key] = value


def _ignore(record: LinkRecord, method: Any, headers: Headers, peer: Peer, flags: int = 0) -> None:
    """Capture nothing: clicks are switched off."""
