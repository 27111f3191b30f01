"""Lookups after a miss of the local cache: in Redis, then in PostgreSQL, with a fallback.

All requests for a key share one lookup. The keys of one event loop iteration go to Redis in one
MGET, and those that Redis does not have to PostgreSQL in one SELECT. The records are stored in the
local cache, and those from PostgreSQL are offered to Redis in the background. While neither Redis
nor PostgreSQL is available, a stale entry of the local cache is served; without one, the response
is «unavailable», never «not found».
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from prometheus_client import Histogram

from redirector.counts import Counts
from redirector.lookup import repository
from redirector.lookup.freshness import RelayHeartbeat, freshness
from redirector.lookup.repository import Found
from redirector.lookup.scan_detection import ScanDetector
from redirector.lookup.token_bucket import TokenBucket
from redirector.responses.responses import Response
from shortcore.cache.local import Entry, LocalCache
from shortcore.cache.store import CacheStore
from shortcore.errors import CacheUnavailable, DatabaseUnavailable
from shortcore.links.record import Kind, LinkKey, LinkRecord, absent
from shortcore.storage.circuit_breaker import State
from shortcore.storage.postgres import Postgres
from shortcore.storage.single_flight import Batches, SingleFlight, settle

BATCH = 256
"""Keys in one MGET or SELECT."""

REDIS_WORKERS = 2
"""Concurrent MGETs.

A call costs 160 µs plus 3 µs per key, so a few large calls are cheaper. With only one, a lost reply
would delay all lookups until its timeout.
"""

FILL_WORKERS = 4
"""Concurrent offers to Redis. While all are busy, further records wait, up to BACKLOG."""

BACKLOG = 10_000
"""Maximum keys that wait for each layer; further keys get the fallback."""

GRACE_S = 1.0
"""Retry interval while a stale link is served, in seconds."""

PRIMARY_ATTEMPTS = 3
"""Maximum reads of a key in the primary if the key changes while it is read."""

LinkEntry = Entry[Response | None]
LinkCache = LocalCache[Response | None]
T = TypeVar("T")

_ABSENT = Kind.ABSENT  # access to an enum member costs as much as a call


class Lookup:
    """Looks up links and stores them in the local cache.

    `replica`, if there is one, is queried before `primary`. `misses` limits how many misses of the
    replica the primary must answer, so that a scan of made-up codes cannot overload the primary.
    `scan` counts lookups of keys that do not exist.

    `heartbeat` says when a relay last wrote to Redis; `freshness` decides whether a record from
    Redis is current.
    """

    def __init__(
        self,
        cache: LinkCache,
        store: CacheStore,
        primary: Postgres,
        replica: Postgres | None,
        *,
        workers: int,
        misses: TokenBucket,
        scan: ScanDetector,
        counts: Counts,
        seconds: Histogram,
        heartbeat: RelayHeartbeat,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._cache = cache
        self._heartbeat = heartbeat
        self._store = store
        self._primary = primary
        self._replica = replica
        self._misses = misses
        self._scan = scan
        self._clock = clock
        self._now_ms = now_ms
        self._single_flight: SingleFlight[LinkKey, LinkEntry | None] = SingleFlight()
        self._to_redis: Batches[LinkKey] = Batches(
            self._ask_redis,
            self._pass_on,
            size=BATCH,
            workers=REDIS_WORKERS,
            waiting=BACKLOG,
        )
        self._to_postgres: Batches[LinkKey] = Batches(
            self._ask_postgres, self._give_up, size=BATCH, workers=workers, waiting=BACKLOG
        )
        self._to_fill: Batches[tuple[LinkKey, LinkRecord, int]] = Batches(
            self._fill, lambda _: None, size=BATCH, workers=FILL_WORKERS, waiting=BACKLOG
        )
        self._values = counts.values
        self._missed = counts.lookup("local", "miss")
        self._slots = {
            (layer, result): counts.lookup(layer, result)
            for layer, results in {
                "local": ("stale", "unavailable"),
                "redis": ("hit", "negative", "miss", "error", "outdated", "unconfirmed"),
                "replica": ("hit", "miss", "error", "outdated"),
                "postgres": ("hit", "negative", "error", "outdated"),
                "fill": ("offered", "error", "skipped"),
            }.items()
            for result in results
        }
        self._seconds = {layer: seconds.labels(layer) for layer in ("redis", "replica", "postgres")}

    def __len__(self) -> int:
        return len(self._single_flight)

    async def find(self, key: LinkKey) -> LinkEntry | None:
        """Return the entry of `key`, or None if it is unavailable.

        The entry may be negative (its record says ABSENT). It may be stale if neither Redis nor
        PostgreSQL is available.
        """
        found: asyncio.Future[LinkEntry | None] = asyncio.get_running_loop().create_future()
        self.ask(key, partial(settle, found))
        return await found

    def ask(self, key: LinkKey, then: Callable[[LinkEntry | None], None]) -> None:
        """Call `then` with the result of `find`: later, or at once if the queue is full."""
        self._values[self._missed] += 1
        if self._single_flight.wait(key, then) and not self._to_redis.add(key):
            self._resolve(key, None)

    def renew(self, key: LinkKey) -> None:
        """Start a lookup of `key` unless one is in progress."""
        if self._single_flight.start(key) and not self._to_redis.add(key):
            self._resolve(key, None)

    async def newest(self, key: LinkKey) -> LinkEntry | None:
        """Return the current entry of `key` from the primary, or None if it is unavailable."""
        for _ in range(PRIMARY_ATTEMPTS):
            entries = await self._read_primary([key])
            if entries is None:
                return None
            if entries[key] is not None:
                return entries[key]
        return None

    async def close(self) -> None:
        """Stop all lookups; requests that still wait get the fallback."""
        await self._to_redis.close()
        await self._to_postgres.close()
        await self._to_fill.close()

    async def _ask_redis(self, keys: list[LinkKey]) -> None:
        read_at = self._clock()
        try:
            records = await self._timed("redis", self._store.get_many(keys))
        except CacheUnavailable:
            self._count("redis", "error", len(keys))
            return
        heartbeat_at = self._heartbeat.last_heartbeat_at
        cache = self._cache
        hits = negatives = misses = 0
        for key, record in zip(keys, records, strict=True):
            if record is None:
                misses += 1
            elif (as_of := freshness(read_at, heartbeat_at, cache.ttl(record))) is None:
                self._count("redis", "unconfirmed")
                self._keep_unconfirmed(key, record, read_at)
            elif (entry := cache.put(key, record, read_at=as_of)) is None:
                self._count("redis", "outdated")
            else:
                if record.version:
                    hits += 1
                else:
                    negatives += 1
                self._resolve(key, entry)
        self._count("redis", "hit", hits)
        self._count("redis", "negative", negatives)
        self._count("redis", "miss", misses)

    def _keep_unconfirmed(self, key: LinkKey, record: LinkRecord, read_at: float) -> None:
        """Keep an unconfirmed record as a stale entry, for use if PostgreSQL is unavailable."""
        cache = self._cache
        if record.kind is not Kind.ABSENT and (
            cache.stale(key) is None or record.version > cache.floor(key)
        ):
            cache.put(key, record, read_at=read_at - cache.ttl(record))
        servers = [self._primary] if self._replica is None else [self._primary, self._replica]
        if cache.stale(key) and all(each.breaker.state is not State.CLOSED for each in servers):
            self._resolve(key, None)  # no request waits for the probe of a server that is down

    def _pass_on(self, keys: list[LinkKey]) -> None:
        # PostgreSQL must answer every key that Redis did not resolve.
        for key in keys:
            if key in self._single_flight and not self._to_postgres.add(key):
                self._resolve(key, None)

    async def _ask_postgres(self, keys: list[LinkKey]) -> None:
        # Resolved keys leave the list: `_give_up` must not end a new lookup of the same key.
        if self._replica is not None:
            keys[:] = await self._ask_replica(self._replica, keys)
        for _ in range(PRIMARY_ATTEMPTS):
            entries = await self._read_primary(keys) if keys else None
            if entries is None:
                return
            for key, entry in entries.items():
                if entry is not None:
                    self._resolve(key, entry)
            keys[:] = [key for key, entry in entries.items() if entry is None]

    def _give_up(self, keys: list[LinkKey]) -> None:
        for key in keys:
            self._resolve(key, None)

    async def _ask_replica(self, replica: Postgres, keys: list[LinkKey]) -> list[LinkKey]:
        """Resolve the keys that the replica has; return those that the primary must answer."""
        read_at = self._clock()
        try:
            rows = await self._timed("replica", repository.find_links(replica, keys))
        except DatabaseUnavailable:
            self._count("replica", "error", len(keys))
            return keys
        left = []
        for key in keys:
            found = rows.get(key)
            record = absent() if found is None else found.record
            if record.version < self._cache.floor(key):
                self._count("replica", "outdated")
                left.append(key)
            elif found is None:
                self._count("replica", "miss")
                # A new link may exist on the primary only. Beyond the budget, the replica's answer
                # is used: the negative entry expires after a few seconds.
                if self._misses.take():
                    left.append(key)
                else:
                    self._keep(key, record, read_at)
            else:
                self._count("replica", "hit")
                self._keep(key, record, read_at)
                self._offer(key, record, found.as_of_ms)
        return left

    async def _read_primary(self, keys: list[LinkKey]) -> dict[LinkKey, LinkEntry | None] | None:
        """Return the entry of each key, None for one that changed while it was read.

        Returns None instead if the primary is unavailable.
        """
        read_at = self._clock()
        read_at_ms = self._now_ms()
        floors = {key: self._cache.floor(key) for key in keys}
        with self._cache.following(keys) as heard:
            try:
                rows = await self._timed("postgres", repository.find_links(self._primary, keys))
            except DatabaseUnavailable:
                self._count("postgres", "error", len(keys))
                return None
        return {
            key: self._accept(
                key, rows.get(key), floors[key], heard.get(key, 0), read_at, read_at_ms
            )
            for key in keys
        }

    def _accept(  # all that is known of one read
        self,
        key: LinkKey,
        found: Found | None,
        floor: int,
        heard: int,
        read_at: float,
        read_at_ms: int,
    ) -> LinkEntry | None:
        # A change reaches the feed after its commit, so the primary has at least the version that
        # was known before the read. If it does not, it has gone back to an older state (restored,
        # or failed over with losses), and this state is now current. But if the feed has named a
        # newer version during the read, the read may be older than that change.
        record = absent(floor) if found is None else found.record
        cache = self._cache
        entry = None
        if (found.record.version if found else 0) >= heard:
            gone_back = record.version < floor == cache.floor(key)
            entry = cache.put(key, record, read_at=read_at, lower=gone_back)
        if entry is None:
            self._count("postgres", "outdated")
            return None
        self._count("postgres", "negative" if found is None else "hit")
        if found is not None or not floor:
            self._offer(key, record, read_at_ms)
        return entry

    def _keep(self, key: LinkKey, record: LinkRecord, read_at: float) -> None:
        self._resolve(key, self._cache.put(key, record, read_at=read_at))

    def _resolve(self, key: LinkKey, entry: LinkEntry | None) -> None:
        if entry is None:
            if key in self._single_flight:
                self._single_flight.resolve(key, self._fallback(key))
        elif self._single_flight.resolve(key, entry) and entry.record.kind is _ABSENT:
            self._scan.note(self._clock())

    def _fallback(self, key: LinkKey) -> LinkEntry | None:
        entry = self._cache.stale(key)
        if entry is None:
            self._count("local", "unavailable")
            return None
        self._count("local", "stale")
        self._cache.prolong(entry, GRACE_S)
        return entry

    def _offer(self, key: LinkKey, record: LinkRecord, as_of_ms: int | None) -> None:
        if as_of_ms is None or not self._to_fill.add((key, record, as_of_ms)):
            self._count("fill", "skipped")

    async def _fill(self, items: list[tuple[LinkKey, LinkRecord, int]]) -> None:
        try:
            await self._store.fill_many(items)
        except CacheUnavailable:
            self._count("fill", "error", len(items))
        else:
            self._count("fill", "offered", len(items))

    async def _timed(self, layer: str, work: Awaitable[T]) -> T:
        started = self._clock()
        try:
            return await work
        finally:
            self._seconds[layer].observe(self._clock() - started)

    def _count(self, layer: str, result: str, number: int = 1) -> None:
        self._values[self._slots[layer, result]] += number
