"""The change feed: a Redis stream that tells every redirector which links changed.

Each reader keeps its own position, so a reconnect resumes without a gap. Each entry names the
one before it; a reader whose position is not that one has missed something (trimmed, flushed,
or lost by a failover) and empties its local cache.
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
    """`key` has reached `version`, committed at `at_ms` (Unix ms).

    A key that ends in a slash (no code) says that the domain itself changed.
    """

    key: LinkKey
    version: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read brought: the changes, the position after them, and whether some are lost.

    `all_told` says that one of the entries had no changes: a relay found nothing left to tell.
    `drained` says that the stream held no more at the time.
    """

    changes: Sequence[Change]
    position: str
    gap: bool
    all_told: bool = False
    drained: bool = True


ENTRIES = 64
"""Of one read at the most."""

_ID_BITS = 32
"""Random bits of an id. Lua counts exactly to 2**53: two million entries in one millisecond."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Change])


class FeedUnreadable(Exception):
    """Redis answered with something that is no entry of the feed."""


@contextlib.contextmanager
def _understanding() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise FeedUnreadable(f"{type(error).__name__}: {error}") from error


class ChangeFeed:
    """Reads and appends; raises redis-py's errors, which callers count and back off from.

    `end` and `read` raise FeedUnreadable as well.
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
        """Add one entry holding all `changes` (none: «all is told»); returns its id."""
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
        with _understanding():
            newest = await self._client.xrevrange(self._stream, count=1)
            return _text(newest[0][0]) if newest else START

    async def read(self, position: str, *, wait_ms: int) -> Batch:
        """Return what came after `position`, waiting up to `wait_ms` for something to come.

        With nothing new it compares `position` with the end of the stream, so that a flushed
        or failed-over stream is noticed within one wait even if nobody writes.
        """
        with _understanding():
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
            # Something came between the two commands: the next read brings it.
            return Batch((), position, gap=False)
        changes: list[Change] = []
        gap = all_told = False
        for entry_id, fields in entries:
            gap |= _text(fields[b"p"]) != position
            told = _decoder.decode(fields[b"d"])
            changes.extend(told)
            all_told |= not told
            position = entry_id
        return Batch(changes, position, gap, all_told, drained=len(entries) < ENTRIES)


def _entries(reply: object) -> list[tuple[str, dict[bytes, bytes]]]:
    # RESP3 answers {stream: [[entries]]}, RESP2 [[stream, entries]].
    if not reply:
        return []
    raw = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]  # type: ignore[index]  # redis-py types replies as Any-like unions
    return [(_text(entry_id), fields) for entry_id, fields in raw]


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return the id of an entry as it compares: Unix ms of its server's clock, then a number."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
