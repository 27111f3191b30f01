"""Click batches as redirectors send them, workers in the test's process, and what they counted."""

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import redis

from shortcore.cache.keys import CacheKeys
from shortcore.clicks.rollups import DayRollup, Kind
from shortcore.clicks.wire import FIELD, Click, ClickBatch, encode_batch, partition_of
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import open_postgres
from shortcore.storage.redis import open_redis
from shortcore.storage.redis_calls import RedisCalls
from writer.worker.worker import Worker

PARTITIONS = 4
FAST = {"worker_flush_ms": 20, "worker_lease_s": 2, "clicks_partitions": PARTITIONS}


def click(link_id: int, at_ms: int | None = None, flags: int = 0, **fields: Any) -> Click:
    """Return a click, now by default."""
    return Click(link_id, int(time.time() * 1000) if at_ms is None else at_ms, flags, **fields)


class Sender:
    """A redirector process: one source, and the number of its next batch in each stream."""

    def __init__(self, client: "redis.Redis", prefix: str, partitions: int = PARTITIONS) -> None:
        self.source = secrets.token_bytes(12)
        self.numbers = Counter[int]()
        self.sent = Counter[int]()
        """Clicks sent by link."""
        self.client = client
        self._keys = CacheKeys(prefix)
        self._partitions = partitions

    def send(self, clicks: Sequence[Click], *, copies: int = 1, at: int | None = None) -> None:
        """Send clicks in one batch for each stream; further copies are as after timeouts.

        `at` is the time in the ids of the entries, if it is not that of the server.
        """
        entry = "*" if at is None else f"{at}-*"
        streams: dict[int, list[Click]] = {}
        for each in clicks:
            streams.setdefault(partition_of(each.link_id, self._partitions), []).append(each)
            self.sent[each.link_id] += 1
        for stream, some in streams.items():
            self.numbers[stream] += 1
            payload = encode_batch(ClickBatch(self.source, self.numbers[stream], some))
            for _ in range(copies):
                self.client.xadd(self._keys.clicks(stream), {FIELD: payload}, id=entry)

    def skip(self, stream: int, batches: int = 1) -> None:
        """Lose batches before they reach Redis."""
        self.numbers[stream] += batches


class Counted:
    """What PostgreSQL has counted."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.sql = connection

    async def links(self) -> dict[int, int]:
        """Return the clicks in total of each link."""
        rows = await self.sql.fetch("SELECT link_id, clicks FROM link_totals")
        return {row["link_id"]: row["clicks"] for row in rows}

    async def total(self) -> int:
        """Return the clicks of all links."""
        return int(await self.sql.fetchval("SELECT coalesce(sum(clicks), 0) FROM link_totals"))

    async def rollup(self, kind: Kind, subject: int) -> DayRollup:
        """Return the rollup of all days and streams of a subject."""
        rows = await self.sql.fetch(
            "SELECT clicks, visits, series, breakdowns, visitors FROM clicks_daily "
            "WHERE kind = $1 AND subject = $2",
            kind,
            subject,
        )
        return _sum(DayRollup.decode(*row) for row in rows)

    async def check_sums(self) -> None:
        """Check that the rows of each kind, their series and the totals of links add up."""
        total = await self.total()
        rows = await self.sql.fetch(
            "SELECT kind, clicks, visits, series, breakdowns, visitors FROM clicks_daily"
        )
        clicks: Counter[int] = Counter()
        for kind, *columns in rows:
            rollup = DayRollup.decode(*columns)
            clicks[kind] += rollup.clicks
            assert sum(pair[0] for pair in rollup.series.values()) == rollup.clicks
            assert sum(pair[1] for pair in rollup.series.values()) == rollup.visits
            for values in rollup.breakdowns:
                assert sum(pair[0] for pair in values.values()) <= rollup.clicks
        assert clicks[Kind.LINK] == clicks[Kind.ALL] == total


def _sum(rollups: Iterable[DayRollup]) -> DayRollup:
    total = DayRollup()
    for rollup in rollups:
        total.merge(rollup, max_values=1_000_000)
    return total


@contextlib.asynccontextmanager
async def open_worker(
    database_url: str, redis_url: str, prefix: str, **settings: Any
) -> AsyncIterator[Worker]:
    """Give a worker that is not started, and stop it at the end."""
    loaded = WorkerSettings(
        postgres_url=database_url, redis_url=redis_url, redis_prefix=prefix, **(FAST | settings)
    )
    postgres = await open_postgres(
        database_url,
        name="postgres",
        pool_size=8,
        statement_cache=64,
        timeout_ms=5000,
        breaker=_breaker(),
        application="test",
    )
    timeout_ms = loaded.worker_redis_timeout_ms
    client = open_redis(redis_url, timeout_ms=timeout_ms, pool_size=16, application="test")
    worker = Worker(postgres, client, RedisCalls(_breaker(), timeout_ms), loaded)
    try:
        yield worker
    finally:
        await worker.stop()
        await postgres.close()
        await client.aclose()


def _breaker() -> Breaker:
    return Breaker(failures=3, open_s=0.05, clock=time.monotonic)


def noon() -> int:
    """Return the time of noon today (UTC) in Unix ms: clicks around it are of one day."""
    now = datetime.now(UTC)
    return int(now.replace(hour=12, minute=0, second=0, microsecond=0).timestamp() * 1000)
