"""The local cache of a redirector: bounded in size, and a record never replaces a newer one.

Eviction is by second chance (CLOCK; Corbató 1968). A hit marks its entry. Eviction takes the key at the
front of a queue; the key of a marked entry loses its mark and goes to the back instead. So a hit costs
one dict lookup and one attribute write. (An OrderedDict would take ten times the memory of the queue.
A dict alone takes longer to find its first key with every key that was removed before it.)

The TTL of an entry runs from the read of its record, never from its last hit, so that links in use are
looked up again like all others.

`Floors` keep the newest version seen of keys that were evicted. A record older than its floor is
refused, so that a slow reply, or a Redis that lost its newest writes, cannot bring back an old target.
An invalidated entry is its own floor: it stays in its place, without its record, until it is looked up
again or evicted.
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
"""Memory of an entry besides its text, as the redirector's test_memory.py measures it: the entry, the
record, the key, and the places in the dict, the queue and the floors."""

SECOND_CHANCES = 32
"""Maximum number of marked entries that one eviction skips, so that no eviction takes long."""

T = TypeVar("T")

Prepared: TypeAlias = tuple[LinkRecord, T, int]
"""The record to keep, the response made from it, and the size of that response in bytes."""

_ABSENT = Kind.ABSENT  # an attribute of an enum costs as much as a call


class Entry(msgspec.Struct, Generic[T], gc=False, eq=False):
    """A cached record, its times, and the response prepared from it.

    A hit after `refresh_at` should start a lookup. After `fresh_until` the entry is stale: it may be
    used only if neither Redis nor PostgreSQL answers, until `stale_until`. `renewed` says that the
    entry replaced a fresh one of the same version: the link is in use, and was not edited just now.
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
    """Records by key, at most `max_entries` and about `max_bytes`; times are seconds of `clock`.

    `prepare` returns the record to keep (its targets may be written differently), the response that
    hits reuse, and the number of bytes of the response that no other entry shares. It runs once for
    each entry that is stored; its last argument says whether the entry is a renewed one. `entries`
    is public for the hot path, which reads it directly.
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
        """Return the entry if it is fresh; the fast path does the same inline."""
        entry = self.entries.get(key)
        if entry is None or entry.fresh_until <= self._clock():
            return None
        entry.visited = True
        return entry

    def stale(self, key: LinkKey) -> Entry[T] | None:
        """Return the entry even if it is stale, for when neither Redis nor PostgreSQL answers.

        A negative entry is never stale: a 404 needs a recent answer of PostgreSQL.
        """
        entry = self.entries.get(key)
        return entry if entry is not None and self._clock() < entry.stale_until else None

    def prolong(self, entry: Entry[T], seconds: float) -> None:
        """Serve a stale entry as a fresh one for `seconds` from now, never past `stale_until`.

        Call it after a failed lookup, so that not every request repeats the lookup.
        """
        now = self._clock()
        entry.fresh_until = max(entry.fresh_until, min(now + seconds, entry.stale_until))
        entry.refresh_at = now + seconds

    def floor(self, key: LinkKey) -> int:
        """Return the newest known version of `key`; 0 if no version is known."""
        entry = self.entries.get(key)
        return entry.record.version if entry else self._floors.get(key)

    def ttl(self, record: LinkRecord) -> float:
        """Return the TTL of `record` in seconds, from its read."""
        return self._negative_ttl_s if record.kind is _ABSENT else self._ttl_s

    def put(
        self, key: LinkKey, record: LinkRecord, *, read_at: float, lower: bool = False
    ) -> Entry[T] | None:
        """Cache `record`, which was read at `read_at`; returns None if a newer version is known.

        `lower` accepts an older version: the primary was restored, or failed over with losses.
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
            # It was read before changes were lost, and `expire` was called meanwhile.
            refresh_at = fresh_until = read_at
        size = _size(key, record, own_bytes)
        entry = Entry(record, response, refresh_at, fresh_until, stale_until, size, renewed)
        self._place(key, entry, before)
        return entry

    def prepare_again(self, keys: Iterable[LinkKey]) -> None:
        """Prepare the responses of `keys` again, because other input of `prepare` has changed."""
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
        """Drop a record older than `version`; returns whether there was one."""
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
        """Yield the versions of `keys` that are passed to `invalidate` during the block.

        Versions below the floor are included: a primary that was restored continues from a lower one.
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
        """Set the TTLs of new entries, and shorten those of present entries to them."""
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        now = self._clock()
        for entry in self.entries.values():
            until = now + self.ttl(entry.record)
            entry.fresh_until = min(entry.fresh_until, until)
            entry.refresh_at = min(entry.refresh_at, until)

    def expire(self) -> None:
        """Make every entry stale, because changes were missed.

        The entries remain as floors, and as stale entries for the time when neither Redis nor
        PostgreSQL answers. A record that was read before this call and is stored after it is stale
        as well.
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
            entry.visited = True  # the link is in use, and keeps its place in the queue
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
            self._floors.forget(key)  # the primary was restored to a state without this link


def _size(key: LinkKey, record: LinkRecord, own_bytes: int) -> int:
    size = ENTRY_OVERHEAD_BYTES + len(key) + len(record.target) + own_bytes
    if record.title is not None:
        size += len(record.title)
    if record.expired_target is not None:
        size += len(record.expired_target)
    return size
