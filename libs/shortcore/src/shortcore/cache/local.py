"""The redirector's own memory of links: bounded, non-sliding, never going back in version.

One dict in insertion order with a second chance: a hit marks its entry, and eviction passes a
marked entry once before it drops it (CLOCK; Corbató 1968). A hit thus costs one look-up and
one attribute write, no reordering. An entry's time to live runs from its read, never from its
last hit: a hot link is asked for anew like any other.

`floors` remembers, in the same bounded way, the newest version seen of keys that left: a
record older than its floor is refused, so that a slow reply, or a Redis that lost its newest
writes, cannot bring an old target back.
"""

from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from shortcore.links import LinkKey, LinkRecord

ENTRY_OVERHEAD_BYTES = 700
"""Entry, record, key, dict slots and prebuilt answer, as measured by tests/test_local.py."""

T = TypeVar("T")


class Entry(Generic[T]):
    """A cached record, until when it may be used, and the answer prepared from it."""

    __slots__ = ("answer", "fresh_until", "record", "refresh_at", "size", "visited")

    def __init__(
        self, record: LinkRecord, answer: T, fresh_until: float, refresh_at: float, size: int
    ) -> None:
        self.record = record
        self.answer = answer
        self.fresh_until = fresh_until
        self.refresh_at = refresh_at
        self.size = size
        self.visited = False


class LocalCache(Generic[T]):
    """Records by key, at most `max_entries` and about `max_bytes`; times are `clock` seconds.

    `prepare` turns a record into the answer that hits reuse; it runs once a fill.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        ttl_s: float,
        negative_ttl_s: float,
        refresh_ahead: float,
        prepare: Callable[[LinkRecord], T],
        clock: Callable[[], float],
    ) -> None:
        self.entries: dict[LinkKey, Entry[T]] = {}
        self.bytes = 0
        self.evictions = 0
        self._floors: dict[LinkKey, int] = {}
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._refresh_ahead = refresh_ahead
        self._prepare = prepare
        self._clock = clock

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: LinkKey) -> Entry[T] | None:
        """Return the entry if it is fresh; the hot path does the same inline."""
        entry = self.entries.get(key)
        if entry is None or entry.fresh_until <= self._clock():
            return None
        entry.visited = True
        return entry

    def stale(self, key: LinkKey) -> Entry[T] | None:
        """Return the entry whatever its age, for when nothing else answers."""
        return self.entries.get(key)

    def floor(self, key: LinkKey) -> int:
        """Return the newest version of `key` that this process remembers to have seen."""
        entry = self.entries.get(key)
        return max(self._floors.get(key, 0), entry.record.version if entry else 0)

    def put(self, key: LinkKey, record: LinkRecord, *, read_at: float) -> Entry[T] | None:
        """Keep `record` as of `read_at`; returns None when a newer version was seen already."""
        if record.version < self.floor(key):
            return None
        ttl = self._ttl_s if record.version else self._negative_ttl_s
        size = ENTRY_OVERHEAD_BYTES + 2 * len(record.target)
        entry = Entry(
            record, self._prepare(record), read_at + ttl, read_at + ttl * self._refresh_ahead, size
        )
        self._remove(key)
        self.entries[key] = entry
        self.bytes += size
        self._floors.pop(key, None)
        while len(self.entries) > self._max_entries or self.bytes > self._max_bytes:
            self._evict_one()
        return entry

    def invalidate(self, key: LinkKey, version: int) -> bool:
        """Forget anything older than `version`; returns whether an entry went."""
        if version <= self.floor(key):
            return False
        had = self._remove(key)
        self._remember(key, version)
        return had

    def clear(self) -> None:
        """Empty the cache, keeping what is known of versions."""
        for key in list(self.entries):
            self._forget(key)

    def _evict_one(self) -> None:
        key, entry = next(iter(self.entries.items()))
        if entry.visited:
            entry.visited = False
            self.entries[key] = self.entries.pop(key)
            return
        self._forget(key)
        self.evictions += 1

    def _forget(self, key: LinkKey) -> None:
        version = self.entries[key].record.version
        self._remove(key)
        if version:
            self._remember(key, version)

    def _remove(self, key: LinkKey) -> bool:
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self.bytes -= entry.size
        return True

    def _remember(self, key: LinkKey, version: int) -> None:
        self._floors.pop(key, None)
        self._floors[key] = version
        if len(self._floors) > self._max_entries:
            for oldest in list(islice(self._floors, max(1, self._max_entries // 100))):
                del self._floors[oldest]
