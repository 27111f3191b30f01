"""The redirector's own memory of links: bounded, non-sliding, never going back in version.

An ordered dict with a second chance: a hit marks its entry, and eviction passes a marked entry
once before it drops it (CLOCK; Corbató 1968). A hit thus costs one look-up and one attribute
write, no reordering. An entry's time to live runs from its read, never from its last hit: a hot
link is asked for anew like any other. (Not a plain dict: finding its first key takes longer
with every key that was removed in front of it.)

Floors remember, in the same bounded way, the newest version seen of keys that left: a record
older than its floor is refused, so that a slow reply, or a Redis that lost its newest writes,
cannot bring an old target back.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from shortcore.links import Kind, LinkKey, LinkRecord

ENTRY_OVERHEAD_BYTES = 525
"""Entry, record, key, dict slots and prebuilt answer, as the redirector's test_memory.py measures."""

SECOND_CHANCES = 32
"""Marked entries that one eviction may pass: a full turn of the clock would be a pause."""

T = TypeVar("T")


class Entry(Generic[T]):
    """A cached record, until when it may be used, and the answer prepared from it.

    From `refresh_at` on a hit should renew it, from `fresh_until` on it may not be used, unless
    nothing else answers: then until `stale_until`. `renewed` says that it took the place of a
    fresh one of the same version: the link is in use, and was not edited just now.
    """

    __slots__ = (
        "answer", "fresh_until", "record", "refresh_at", "renewed", "size", "stale_until",
        "visited",
    )  # fmt: skip

    def __init__(
        self,
        record: LinkRecord,
        answer: T,
        *,
        refresh_at: float,
        fresh_until: float,
        stale_until: float,
        size: int,
        renewed: bool = False,
    ) -> None:
        self.record = record
        self.answer = answer
        self.refresh_at = refresh_at
        self.fresh_until = fresh_until
        self.stale_until = stale_until
        self.size = size
        self.renewed = renewed
        self.visited = False


class LocalCache(Generic[T]):
    """Records by key, at most `max_entries` and about `max_bytes`; times are `clock` seconds.

    `prepare` turns a record into the answer that hits reuse, and says how many bytes of it no
    other entry shares; it runs once a fill and is told whether the entry is a renewed one.
    `entries` is public for the hot path, which reads it directly.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        ttl_s: float,
        negative_ttl_s: float,
        stale_s: float,
        refresh_ahead: float,
        prepare: Callable[[LinkKey, LinkRecord, bool], tuple[T, int]],
        clock: Callable[[], float],
    ) -> None:
        self.entries: OrderedDict[LinkKey, Entry[T]] = OrderedDict()
        self.bytes = 0
        self.evictions = 0
        self._floors: dict[LinkKey, int] = {}
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._stale_s = stale_s
        self._refresh_ahead = refresh_ahead
        self._prepare = prepare
        self._clock = clock
        self._expired_at = -math.inf

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
        """Return the entry although it is no longer fresh, for when nothing else answers.

        A negative entry has no stale time: a 404 needs a recent word of PostgreSQL.
        """
        entry = self.entries.get(key)
        return entry if entry is not None and self._clock() < entry.stale_until else None

    def prolong(self, entry: Entry[T], seconds: float) -> None:
        """Let a stale entry pass as fresh for `seconds` from now, never past its stale time.

        Asked for after a look-up in vain, so that not every request repeats it.
        """
        now = self._clock()
        entry.fresh_until = max(entry.fresh_until, min(now + seconds, entry.stale_until))
        entry.refresh_at = now + seconds

    def floor(self, key: LinkKey) -> int:
        """Return the newest version of `key` that this process remembers to have seen."""
        entry = self.entries.get(key)
        return entry.record.version if entry else self._floors.get(key, 0)

    def life(self, record: LinkRecord) -> float:
        """Return for how many seconds from its read `record` may be used."""
        return self._negative_ttl_s if record.kind is Kind.ABSENT else self._ttl_s

    def put(
        self, key: LinkKey, record: LinkRecord, *, read_at: float, lower: bool = False
    ) -> Entry[T] | None:
        """Keep `record` as of `read_at`; returns None when a newer version was seen already.

        `lower` accepts it even then: the primary itself has gone back (restored, failed over).
        """
        if record.version < self.floor(key) and not lower:
            return None
        ttl = self.life(record)
        stale_s = 0.0 if record.kind is Kind.ABSENT else self._stale_s
        before = self.entries.get(key)
        renewed = (
            before is not None
            and before.record.version == record.version
            and self._clock() < before.fresh_until
        )
        answer, own_bytes = self._prepare(key, record, renewed)
        # What was on its way when `expire` was called was read before changes were lost.
        fresh_s = ttl if read_at >= self._expired_at else 0.0
        entry = Entry(
            record,
            answer,
            refresh_at=read_at + fresh_s * self._refresh_ahead,
            fresh_until=read_at + fresh_s,
            stale_until=read_at + ttl + stale_s,
            size=_size(key, record) + own_bytes,
            renewed=renewed,
        )
        self._remove(key)
        self._floors.pop(key, None)
        self.entries[key] = entry
        self.bytes += entry.size
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

    def set_lives(self, ttl_s: float, negative_ttl_s: float) -> None:
        """Let entries live so long from now on; those that would live longer are cut to it."""
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        now = self._clock()
        for entry in self.entries.values():
            until = now + self.life(entry.record)
            entry.fresh_until = min(entry.fresh_until, until)
            entry.refresh_at = min(entry.refresh_at, until)

    def expire(self) -> None:
        """Make every entry stale: changes were missed, so each must be asked for anew.

        They stay for when nothing answers, and as floors. What was read before now and is put
        later is as stale.
        """
        now = self._expired_at = self._clock()
        for entry in self.entries.values():
            entry.refresh_at = min(entry.refresh_at, now)
            entry.fresh_until = min(entry.fresh_until, now)

    def _evict_one(self) -> None:
        for _ in range(SECOND_CHANCES):
            key = next(iter(self.entries))
            entry = self.entries[key]
            if not entry.visited:
                break
            entry.visited = False
            self.entries.move_to_end(key)
        key, entry = self.entries.popitem(last=False)
        self.bytes -= entry.size
        self.evictions += 1
        if entry.record.version:
            self._remember(key, entry.record.version)

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


def _size(key: LinkKey, record: LinkRecord) -> int:
    # The target stands in the record and, encoded, in the answer.
    more = len(record.title or "") + len(record.expired_target or "")
    return ENTRY_OVERHEAD_BYTES + len(key) + 2 * len(record.target) + more
