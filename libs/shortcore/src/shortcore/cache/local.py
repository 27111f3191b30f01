"""The redirector's own memory of links: bounded, non-sliding, never going back in version.

A dict with a second chance: a hit marks its entry, and eviction takes keys from the front of a
queue, where a marked one goes to the back once before it is dropped (CLOCK; Corbató 1968). A hit
thus costs one look-up and one attribute write, no reordering. An entry's time to live runs from
its read, never from its last hit: a hot link is asked for anew like any other. (An OrderedDict
holds the same order for ten times the memory; a dict alone takes longer to find its first key
with every key that was removed in front of it.)

`Floors` remember, in a bounded way, the newest version seen of keys that left: a record older
than its floor is refused, so that a slow reply, or a Redis that lost its newest writes, cannot
bring an old target back. An entry that was invalidated is its own floor: it stays in its place,
spent, until it is looked up anew or evicted.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec

from shortcore.cache.floors import Floors
from shortcore.links.record import Kind, LinkKey, LinkRecord, absent

ENTRY_OVERHEAD_BYTES = 578
"""Entry, record, key, places in dict, queue and floors, as the redirector's test_memory.py measures."""

SECOND_CHANCES = 32
"""Marked entries that one eviction may pass: a full turn of the clock would be a pause."""

T = TypeVar("T")

Prepared: TypeAlias = tuple[LinkRecord, T, int]
"""A record to keep, the answer made from it, and the bytes of that answer."""

_ABSENT = Kind.ABSENT  # a member of an enum is looked up at the cost of a call


class Entry(msgspec.Struct, Generic[T], gc=False, eq=False):
    """A cached record, until when it may be used, and the answer prepared from it.

    From `refresh_at` on a hit should renew it, from `fresh_until` on it may not be used, unless
    nothing else answers: then until `stale_until`. `renewed` says that it took the place of a
    fresh one of the same version: the link is in use, and was not edited just now.
    """

    record: LinkRecord
    response: T
    refresh_at: float
    fresh_until: float
    stale_until: float
    size: int
    """Bytes of memory, as `max_bytes` counts them."""
    renewed: bool = False
    visited: bool = False


class LocalCache(Generic[T]):
    """Records by key, at most `max_entries` and about `max_bytes`; times are `clock` seconds.

    `prepare` returns the record to keep (it may differ in the form of its targets), the answer that
    hits reuse, and how many bytes of the answer no other entry shares. It runs once a fill; its last
    argument says whether the entry is a renewed one.
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
        prepare: Callable[[LinkKey, LinkRecord, bool], Prepared[T]],
        clock: Callable[[], float],
    ) -> None:
        self.entries: dict[LinkKey, Entry[T]] = {}
        self.bytes = 0
        self.evictions = 0
        self._queue: deque[LinkKey] = deque()  # exactly the keys of `entries`
        self._floors = Floors(max_entries)
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._stale_s = stale_s
        self._refresh_ahead = refresh_ahead
        self._prepare = prepare
        self._clock = clock
        self._expired_at = -math.inf
        self._followed: dict[LinkKey, list[dict[LinkKey, int]]] = {}

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
        return entry.record.version if entry else self._floors.get(key)

    def ttl(self, record: LinkRecord) -> float:
        """Return for how many seconds from its read `record` may be used."""
        return self._negative_ttl_s if record.kind is _ABSENT else self._ttl_s

    def put(
        self, key: LinkKey, record: LinkRecord, *, read_at: float, lower: bool = False
    ) -> Entry[T] | None:
        """Keep `record` as of `read_at`; returns None when a newer version was seen already.

        `lower` accepts it even then: the primary itself has gone back (restored, failed over).
        """
        before = self.entries.get(key)
        floor = before.record.version if before else self._floors.get(key)
        if record.version < floor and not lower:
            return None
        renewed = (
            before is not None
            and before.record.version == record.version
            and self._clock() < before.fresh_until
        )
        record, response, own_bytes = self._prepare(key, record, renewed)
        negative = record.kind is _ABSENT
        ttl = self._negative_ttl_s if negative else self._ttl_s
        fresh_until = read_at + ttl
        stale_until = fresh_until if negative else fresh_until + self._stale_s
        refresh_at = read_at + ttl * self._refresh_ahead
        if read_at < self._expired_at:
            # It was on its way when `expire` was called: read before changes were lost.
            refresh_at = fresh_until = read_at
        size = _size(key, record, own_bytes)
        entry = Entry(record, response, refresh_at, fresh_until, stale_until, size, renewed)
        self._place(key, entry, before)
        return entry

    def prepare_again(self, keys: Iterable[LinkKey]) -> None:
        """Make the answers of `keys` anew, as something else that `prepare` looks at has changed."""
        for key in keys:
            entry = self.entries.get(key)
            if entry is None:
                continue
            entry.record, entry.response, own_bytes = self._prepare(
                key, entry.record, entry.renewed
            )
            size = _size(key, entry.record, own_bytes)
            self.bytes += size - entry.size
            entry.size = size

    def invalidate(self, key: LinkKey, version: int) -> bool:
        """Forget anything older than `version`; returns whether an entry went."""
        for heard in self._followed.get(key, ()):
            heard[key] = max(version, heard.get(key, 0))
        if version <= self.floor(key):
            return False
        before = self.entries.get(key)
        if before is None:
            self._floors.remember(key, version)
            return False
        record = absent(version)
        record, response, own_bytes = self._prepare(key, record, False)  # it is not in use
        spent = Entry(
            record,
            response,
            refresh_at=-math.inf,
            fresh_until=-math.inf,
            stale_until=-math.inf,
            size=_size(key, record, own_bytes),
        )
        self._place(key, spent, before)
        return True

    @contextlib.contextmanager
    def following(self, keys: Sequence[LinkKey]) -> Iterator[Mapping[LinkKey, int]]:
        """Give the versions of `keys` that `invalidate` is told of during the block.

        They count even where they are below the floor: a primary that has gone back begins anew
        with low versions.
        """
        heard: dict[LinkKey, int] = {}
        keys = tuple(keys)
        for key in keys:
            self._followed.setdefault(key, []).append(heard)
        try:
            yield heard
        finally:
            for key in keys:
                followers = self._followed[key]
                followers[:] = [each for each in followers if each is not heard]
                if not followers:
                    del self._followed[key]

    def set_ttls(self, ttl_s: float, negative_ttl_s: float) -> None:
        """Let entries live so long from now on; those that would live longer are cut to it."""
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        now = self._clock()
        for entry in self.entries.values():
            until = now + self.ttl(entry.record)
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

    def _place(self, key: LinkKey, entry: Entry[T], before: Entry[T] | None) -> None:
        self.bytes += entry.size
        self.entries[key] = entry
        if before is None:
            self._queue.append(key)
        else:
            self.bytes -= before.size
            entry.visited = True  # it keeps its place in the queue, and is in use
        while len(self.entries) > self._max_entries or self.bytes > self._max_bytes:
            self._evict_one()

    def _evict_one(self) -> None:
        key = self._queue.popleft()
        for _ in range(SECOND_CHANCES):
            entry = self.entries[key]
            if not entry.visited:
                break
            entry.visited = False
            self._queue.append(key)
            key = self._queue.popleft()
        entry = self.entries.pop(key)
        self.bytes -= entry.size
        self.evictions += 1
        version = entry.record.version
        if version:
            self._floors.remember(key, version)
        else:
            self._floors.forget(key)  # the primary went back to before there was such a link


def _size(key: LinkKey, record: LinkRecord, own_bytes: int) -> int:
    size = ENTRY_OVERHEAD_BYTES + len(key) + len(record.target) + own_bytes
    if record.title is not None:
        size += len(record.title)
    if record.expired_target is not None:
        size += len(record.expired_target)
    return size
