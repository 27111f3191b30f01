"""The change feed: a Redis stream that notifies every redirector of changed links.

Each reader keeps its own position, so that a reconnect resumes without a gap. Each entry names its
predecessor. If that is not the reader's position, the reader has missed entries (trimmed, flushed, or
lost in a failover), and every entry of its local cache becomes stale.
"""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import redis.asyncio
import redis.exceptions

from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import MAX_VERSION
from shortcore.cache.scripts import APPEND
from shortcore.links.record import LinkKey

START = "0-0"
"""The position before the first entry of an empty stream."""


class Change(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The link `key` has version `version` since `at_ms` (Unix time in milliseconds).

    A key that ends in a slash has no code: the domain itself changed.
    """

    key: LinkKey
    version: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one read: the changes, the position after them, and whether changes were missed.

    `all_told` is true if an entry had no changes, because a relay found its backlog empty.
    `drained` is true if the stream had no more entries at that time.
    """

    changes: Sequence[Change]
    position: str
    gap: bool
    all_told: bool = False
    drained: bool = True


ENTRIES = 64
"""Maximum number of entries of one read."""

_ID_BITS = 32
"""Random bits of an entry's id. Lua counts exactly to 2**53, so two million entries per millisecond fit."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Change])


class FeedUnreadable(Exception):
    """The reply of Redis is not an entry of the feed."""


@contextlib.contextmanager
def _unreadable_on_error() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise FeedUnreadable(f"{type(error).__name__}: {error}") from error


class ChangeFeed:
    """Appends to the change feed and reads it. All methods raise REDIS_UNAVAILABLE_ERRORS.

    `end` and `read` also raise FeedUnreadable.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis | redis.asyncio.RedisCluster",
        keys: CacheKeys,
        *,
        max_length: int,
        max_age_s: int,
    ) -> None:
        self._client = client
        self._stream = keys.changes
        self._max_length = max_length
        self._max_age_ms = max_age_s * 1000
        self._append = client.register_script(APPEND)

    async def append(self, changes: Sequence[Change]) -> str:
        """Add one entry with all `changes`; returns its id. Without changes it is a heartbeat."""
        entry = await self._append(
            keys=[self._stream],
            args=[
                _encoder.encode(changes),
                self._max_length,
                self._max_age_ms,
                secrets.randbits(_ID_BITS),
            ],
        )
        return _text(entry)

    async def end(self) -> str:
        """Return the position after the newest entry."""
        with _unreadable_on_error():
            newest = await self._client.xrevrange(self._stream, count=1)
            return _text(newest[0][0]) if newest else START

    async def read(self, position: str, *, wait_ms: int) -> Batch:
        """Return the entries after `position`; waits up to `wait_ms` if there are none.

        If none arrives, it compares `position` with the end of the stream. So a stream that was
        flushed or failed over is noticed within one wait, even if nobody appends.
        """
        with _unreadable_on_error():
            return await self._read(position, wait_ms)

    async def _read(self, position: str, wait_ms: int) -> Batch:
        reply = await self._client.xread({self._stream: position}, count=ENTRIES, block=wait_ms)
        entries = _entries(reply)
        if not entries:
            end = await self.end()
            if end == position:
                return Batch((), position, gap=False)
            if entry_order(end) < entry_order(position):
                return Batch((), end, gap=True)
            # An entry was added between the two commands: the next read returns it.
            return Batch((), position, gap=False)
        changes: list[Change] = []
        gap = all_told = False
        for entry_id, fields in entries:
            gap |= _text(fields[b"p"]) != position
            decoded = _decoder.decode(fields[b"d"])
            changes.extend(decoded)
            all_told |= not decoded
            position = entry_id
        return Batch(changes, position, gap, all_told, drained=len(entries) < ENTRIES)


def _entries(reply: object) -> list[tuple[str, dict[bytes, bytes]]]:
    # The reply is {stream: [[entries]]} in RESP3, and [[stream, entries]] in RESP2.
    if not reply:
        return []
    raw = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]  # type: ignore[index]  # redis-py types replies as Any-like unions
    return [(_text(entry_id), fields) for entry_id, fields in raw]


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return a sort key of an entry's id: the Unix time of the server in milliseconds, then a number."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
