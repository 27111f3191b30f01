"""Reads the entries of one click stream from Redis, and trims those that were counted.

Entries are read by `XREAD` from a position that PostgreSQL stores. The consumer group exists only to
show the lag to Redis's own tools and to autoscalers.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis.exceptions

from shortcore.cache.change_feed import START, entry_order
from shortcore.clicks.wire import FIELD
from shortcore.storage.redis import Client, servers_of
from shortcore.storage.redis_calls import RedisCalls

GROUP = "worker"
"""The consumer group. Nobody reads by it."""

READ_BYTES = 1_000_000
"""The size of a reply to aim at, in bytes: it is decoded and counted in a few dozen milliseconds."""

MAX_ENTRIES = 256

COUNTED_PAGE = 100
"""Entries in a reply that are only counted; each has up to 30 KB."""

_FIELD = FIELD.encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a click stream. `data` is None if it has no batch."""

    id: str
    data: bytes | None

    @property
    def at_ms(self) -> int:
        """The time at which Redis took the entry, in Unix ms of its clock."""
        return entry_order(self.id)[0]


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream: the newest id, and how many entries were added and are still there."""

    last_id: str
    added: int
    length: int


class StreamReader:
    """Reads and trims one stream. All methods raise CacheUnavailable."""

    def __init__(self, client: Client, calls: RedisCalls, name: str) -> None:
        self.name = name
        self._client = client
        self._calls = calls
        self.at_end = True
        """Whether the last read found fewer entries than it could have returned."""
        self._count = 16
        self._has_group = False

    async def servers(self) -> str:
        """Return a text that changes with a restart or a failover of Redis."""
        return await self._calls.call(lambda: servers_of(self._client))

    async def read(self, position: str, wait_ms: int, max_entries: int) -> list[Entry]:
        """Return the entries after `position`; waits up to `wait_ms` if there are none.

        The number of entries adapts to their size, so that a reply has about READ_BYTES.
        """
        count = max(1, min(self._count, max_entries))
        reply = await self._calls.call(
            lambda: self._client.xread({self.name: position}, count=count, block=max(1, wait_ms))
        )
        entries = _entries(reply)
        self.at_end = len(entries) < count
        if entries:
            size = sum(len(entry.data or b"") for entry in entries) // len(entries)
            wanted = READ_BYTES // max(size, 1)
            self._count = max(1, min(wanted, 2 * self._count, MAX_ENTRIES))
        return entries

    async def end(self) -> StreamEnd:
        """Return the end of the stream, which may be empty."""
        return await self._calls.call(self._end)

    async def _end(self) -> StreamEnd:
        try:
            info: Mapping[str, Any] = await self._client.xinfo_stream(self.name)
        except redis.exceptions.ResponseError:
            # There is no such stream yet, or the key has another type. In that case, XREAD fails.
            return StreamEnd(START, 0, 0)
        return StreamEnd(
            _text(info["last-generated-id"]), int(info["entries-added"]), int(info["length"])
        )

    async def entries_read(self, position: str, end: StreamEnd) -> int:
        """Return the number of entries up to `position` since the stream began.

        Redis shows the lag of a group only if it knows this number. The group has the number of its
        own position, which differs from `position` only after a failure. If the group has none, all
        entries after `position` are counted.
        """
        if position == end.last_id:
            return end.added
        if position == START:
            return end.added - end.length
        group, read = await self._calls.call(self._group_position)
        if read is None:
            return end.added - await self._between(position, end.last_id)
        if entry_order(group) <= entry_order(position):
            return read + await self._between(group, position)
        return read - await self._between(position, group)

    async def _group_position(self) -> tuple[str, int | None]:
        for group in await self._client.xinfo_groups(self.name):
            if _text(group["name"]) == GROUP:
                return _text(group["last-delivered-id"]), group["entries-read"]
        return START, None

    async def _between(self, after: str, until: str) -> int:
        """Return the number of entries after `after`, up to `until`."""
        number, more = 0, True
        while more:
            page = await self._calls.call(partial(self._ids, after, until))
            number += len(page)
            more = len(page) == COUNTED_PAGE
            after = page[-1] if page else after
        return number

    async def _ids(self, after: str, until: str) -> list[str]:
        found = await self._client.xrange(self.name, min=f"({after}", max=until, count=COUNTED_PAGE)
        return [_text(entry_id) for entry_id, _ in found or []]

    async def tidy(self, position: str, entries_read: int, keep_ms: int) -> None:
        """Trim entries more than `keep_ms` older than `position`, and move the group to `position`.

        `entries_read` is the number of entries up to `position` since the stream began.
        """
        if not self._has_group:
            await self.create_group()
        self._has_group = False  # if the next command fails, the group may have been deleted
        await self._calls.call(
            lambda: self._client.xgroup_setid(self.name, GROUP, position, entries_read)
        )
        self._has_group = True
        # Last: if the stream was deleted and created again, it has no group, and the command above
        # fails. Its entries are not counted yet, and their ids may be older.
        oldest = f"{max(0, entry_order(position)[0] - keep_ms)}-0" if keep_ms else position
        await self._calls.call(lambda: self._client.xtrim(self.name, minid=oldest))

    async def create_group(self) -> None:
        """Create the consumer group, and the stream if there is none."""
        await self._calls.call(self._create_group)

    async def _create_group(self) -> None:
        with contextlib.suppress(redis.exceptions.ResponseError):  # it exists already
            await self._client.xgroup_create(self.name, GROUP, START, mkstream=True)


def _entries(reply: object) -> list[Entry]:
    # The reply is {stream: [[entries]]} in RESP3, and [[stream, entries]] in RESP2.
    if not reply:
        return []
    raw = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]  # type: ignore[index]  # redis-py types replies as Any-like unions
    return [Entry(_text(entry_id), (fields or {}).get(_FIELD)) for entry_id, fields in raw]


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
