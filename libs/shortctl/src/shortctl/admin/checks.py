"""The checks of `shortctl doctor`: each returns a result, with advice if it failed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import httpx

from shortcore.cache.wiring import Cache
from shortcore.clock import unix_ms
from shortcore.errors import ConfigurationError, ShortlinksError
from shortcore.settings.clicks import ClickStreamSettings
from shortcore.settings.loader import load
from shortcore.settings.relay import RelaySettings
from shortcore.settings.urls import redact_url
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS
from shortcore.storage.schema import check_schema
from shortctl.admin import coherence
from shortctl.admin.servers import open_cache, open_database
from shortctl.admin.stored_links import sample_links
from writer.relay.outbox import read_backlog
from writer.worker.overview import StreamReading, read_streams, waiting_since_ms

CLOCK_TOLERANCE_MS = 1000
"""Maximum difference of two clocks. It must stay well below `cache_fill_max_age_ms`, since writes to
Redis carry the time of their read."""

BACKLOG_TOLERANCE_S = 30
BULK_TOLERANCE_S = 900
"""A relay delivers imports slowly (`relay_bulk_rate`): nine million links in this time by default."""

CLICKS_TOLERANCE_S = 60
"""Maximum age of a click that is not counted. While KEDA starts a worker from zero, clicks wait."""

SAMPLE = 200
"""Links of which Redis and PostgreSQL are compared."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check, with advice for the case that it failed."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


async def check_all(
    found: RelaySettings, base: str, headers: dict[str, str], redirector: str | None
) -> list[Result]:
    """Return the results of all checks in a fixed order. A failure raises nothing."""
    primary = found.postgres_url.get_secret_value()
    replica = found.postgres_read_url.get_secret_value() if found.postgres_read_url else None
    async with (
        open_database(primary) as postgres,
        open_cache(found) as redis,
        httpx.AsyncClient(timeout=5, trust_env=False) as http,
    ):
        database = await _database("postgres", primary, postgres)
        results = [database]
        if replica is not None:
            async with open_database(replica, "replica") as reader:
                results.append(await _database("replica", replica, reader))
        cache = await _redis(found, redis)
        results.append(cache)
        if database.ok:
            results += [await _schema(postgres), await _backlog(postgres)]
        if database.ok and cache.ok:
            results += [
                await _clicks(postgres, redis),
                await _clocks(postgres, redis),
                await _coherence(postgres, redis),
            ]
        results.append(await _http(http, "api", f"{base}/api/v1/links?limit=1", headers))
        if redirector is not None:
            results.append(await _http(http, "redirector", f"{redirector}/robots.txt", {}))
    return results


async def _database(name: str, url: str, postgres: Postgres) -> Result:
    where = redact_url(url)
    try:
        async with postgres.connection() as connection:
            began = time.perf_counter()
            version = await connection.fetchval("SHOW server_version")
            took = _ms(began)
            standby = await connection.fetchval("SELECT pg_is_in_recovery()")
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Result(name, False, f"{where}: {error}", _DATABASE_ADVICE)
    detail = f"{where}: version {version}, {took}"
    if standby and name == "postgres":
        advice = "SHORTLINKS_POSTGRES_URL must be the URL of the primary; this server is a replica."
        return Result(name, False, f"{detail}, a replica", advice)
    return Result(name, True, detail)


_DATABASE_ADVICE = (
    "Check that the server runs, and check the host, port, user and password in its URL."
)


async def _redis(found: RelaySettings, redis: Cache) -> Result:
    where = redact_url(found.redis_url.get_secret_value())
    advice = (
        "Check that the server runs, and check its URL. Redirects continue without it, but slower."
    )
    try:
        await redis.store.measure_clock()
        began = time.perf_counter()
        await redis.store.measure_clock()
        took = _ms(began)
        end = await redis.feed.end()
    except (ShortlinksError, *REDIS_UNAVAILABLE_ERRORS) as error:
        return Result("redis", False, f"{where}: {error}", advice)
    return Result("redis", True, f"{where}: {took}, change feed at {end}")


async def _schema(postgres: Postgres) -> Result:
    try:
        async with postgres.connection() as connection:
            await check_schema(connection)
            revision = await connection.fetchval("SELECT revision FROM schema_version")
    except ConfigurationError as error:
        return Result("schema", False, "does not match this version", str(error))
    except ShortlinksError as error:
        return Result("schema", False, str(error), _DATABASE_ADVICE)
    return Result("schema", True, f"revision {revision}")


async def _backlog(postgres: Postgres) -> Result:
    try:
        async with postgres.connection() as connection:
            found = await read_backlog(connection)
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Result("outbox", False, str(error), "See the check of the schema.")
    return Result(
        "outbox",
        found.oldest_s <= BACKLOG_TOLERANCE_S and found.bulk_oldest_s <= BULK_TOLERANCE_S,
        f"{found.rows} changes in the outbox, the oldest {found.oldest_s:.1f} s old"
        + (
            f"; {found.bulk_links} bulk links, the oldest {found.bulk_oldest_s:.1f} s old"
            if found.bulk_links
            else ""
        ),
        "No relay delivers changes: start `shortlinks-writer relay`, or read its log.",
    )


async def _clicks(postgres: Postgres, redis: Cache) -> Result:
    try:
        async with postgres.connection() as connection:
            streams = await read_streams(connection, load(ClickStreamSettings).clicks_partitions)
        waiting = [
            await waiting_since_ms(redis.client, redis.keys.clicks(each.stream), each.position)
            for each in streams
        ]
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Result("clicks", False, str(error), "See the check of the schema.")
    except REDIS_UNAVAILABLE_ERRORS as error:
        return Result("clicks", False, str(error), "See the check of redis.")
    since = [each for each in waiting if each is not None]
    oldest_s = max(0, unix_ms() - min(since)) / 1000 if since else 0.0
    lag = f"the oldest uncounted click is {oldest_s:.1f} s old" if since else "no click waits"
    return Result(
        "clicks",
        oldest_s <= CLICKS_TOLERANCE_S,
        f"{lag}; {_readers(streams)}",
        "No worker counts clicks: start `shortlinks-writer worker`, or read its log.",
    )


def _readers(streams: Sequence[StreamReading]) -> str:
    readers: dict[str, list[str]] = {}
    for each in streams:
        readers.setdefault(each.owner or "no worker", []).append(str(each.stream))
    return "; ".join(
        f"{owner} reads stream{'s' if len(read) > 1 else ''} {', '.join(read)}"
        for owner, read in sorted(readers.items())
    )


async def _clocks(postgres: Postgres, redis: Cache) -> Result:
    try:
        async with postgres.connection() as connection:
            before = unix_ms()
            there = await connection.fetchval(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            )
        of_postgres = there - before
        of_redis = await redis.store.measure_clock()
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Result("clocks", False, str(error), _DATABASE_ADVICE)
    worst = max(abs(of_postgres), abs(of_redis), abs(of_postgres - of_redis))
    return Result(
        "clocks",
        worst <= CLOCK_TOLERANCE_MS,
        f"compared with this machine: postgres {of_postgres:+d} ms, redis {of_redis:+d} ms",
        "Synchronise the clocks with NTP: the expiry of links and writes to Redis depend on them.",
    )


async def _coherence(postgres: Postgres, redis: Cache) -> Result:
    try:
        records = await sample_links(postgres, SAMPLE)
        found = await coherence.differences(postgres, redis, records)
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Result("coherence", False, str(error), "See the results above.")
    return Result(
        "coherence",
        not found,
        f"{len(records)} links compared, {len(found)} differ"
        + (f", for example {found[0].key}" if found else ""),
        "`shortctl cache verify --all` lists all; `shortctl cache rebuild` replaces older records.",
    )


async def _http(http: httpx.AsyncClient, name: str, url: str, headers: dict[str, str]) -> Result:
    try:
        await http.get(
            url, headers=headers
        )  # opens the connection, so that the second request is measured without it
        began = time.perf_counter()
        response = await http.get(url, headers=headers)
    except httpx.TransportError as error:
        detail = f"{url}: {type(error).__name__} {error}"
        return Result(name, False, detail, f"Check that the {name} runs, and check its address.")
    detail = f"{url}: {response.status_code}, {_ms(began)}"
    if response.status_code in {401, 403}:
        return Result(
            name, False, detail, "The API key is not valid: `shortctl keys list` shows all keys."
        )
    return Result(name, response.is_success, detail, f"Read the log of the {name}.")


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"
