"""`shortctl doctor`: look at every part, and say of each that fails what to do."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import asyncpg
import httpx
import typer
from rich.table import Table

from shortcore.cache.wiring import Cache
from shortcore.clock import unix_ms
from shortcore.errors import ConfigurationError, ShortlinksError
from shortcore.settings import RelaySettings, redact_url
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS
from shortcore.storage.schema import check_schema
from shortctl.admin import coherence
from shortctl.admin.servers import (
    PostgresUrl,
    RedisUrl,
    open_cache,
    open_database,
    settings,
)
from shortctl.api.client import Key, Url, api, dev_facts, tables
from writer.relay.outbox import read_backlog

CLOCK_TOLERANCE_MS = 1000
"""Fills carry the time of their read: `cache_fill_max_age_ms` must stay well above this."""

BACKLOG_TOLERANCE_S = 30
BULK_TOLERANCE_S = 900
"""A relay takes its time over imports (`relay_bulk_rate`): nine million links in this one."""

SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was seen, what to do if not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


Check = Callable[[], Awaitable[Finding]]


def doctor(
    url: Url = None,
    key: Key = None,
    redirector_url: Annotated[
        str | None, typer.Option(envvar="SHORTCTL_REDIRECTOR_URL", help="The redirector's address.")
    ] = None,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Look at every part; exit code 1 if any is not well."""
    found = settings(postgres_url, redis_url)
    facts = dev_facts()
    base, headers = api(url, key)
    redirector = redirector_url or (facts.redirector_url if facts else None)
    findings = asyncio.run(examine(found, base, headers, redirector))
    table = Table("", "part", "seen", box=None)
    for each in findings:
        table.add_row("[green]ok" if each.ok else "[red]FAIL", each.name, _plain(each.seen))
        if not each.ok:
            table.add_row("", "", f"[yellow]→ {_plain(each.advice)}")
    tables().print(table)
    if not all(each.ok for each in findings):
        raise typer.Exit(1)


async def examine(
    found: RelaySettings, base: str, headers: dict[str, str], redirector: str | None
) -> list[Finding]:
    """Return what every check finds, in a fixed order; none of them raises."""
    primary = found.postgres_url.get_secret_value()
    replica = found.postgres_read_url.get_secret_value() if found.postgres_read_url else None
    async with (
        open_database(primary) as postgres,
        open_cache(found) as redis,
        httpx.AsyncClient(timeout=5, trust_env=False) as http,
    ):
        database = await _database("postgres", primary, postgres)
        findings = [database]
        if replica is not None:
            async with open_database(replica, "replica") as reader:
                findings.append(await _database("replica", replica, reader))
        cache = await _redis(found, redis)
        findings.append(cache)
        if database.ok:
            findings += [await _schema(postgres), await _backlog(postgres)]
        if database.ok and cache.ok:
            findings += [await _clocks(postgres, redis), await _coherence(postgres, redis)]
        findings.append(await _http(http, "api", f"{base}/api/v1/links?limit=1", headers))
        if redirector is not None:
            findings.append(await _http(http, "redirector", f"{redirector}/robots.txt", {}))
    return findings


async def _database(name: str, url: str, postgres: Postgres) -> Finding:
    where = redact_url(url)
    try:
        async with postgres.connection() as connection:
            began = time.perf_counter()
            version = await connection.fetchval("SHOW server_version")
            took = _ms(began)
            standby = await connection.fetchval("SELECT pg_is_in_recovery()")
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Finding(name, False, f"{where}: {error}", _DATABASE_ADVICE)
    seen = f"{where}: version {version}, {took}"
    if standby and name == "postgres":
        advice = "SHORTLINKS_POSTGRES_URL must name the primary: this one is a replica."
        return Finding(name, False, f"{seen}, a replica", advice)
    return Finding(name, True, seen)


_DATABASE_ADVICE = "Check that the server runs, and host, port, user and password of its URL."


async def _redis(found: RelaySettings, redis: Cache) -> Finding:
    where = redact_url(found.redis_url.get_secret_value())
    advice = "Check that the server runs and its URL; redirects go on meanwhile, but slower."
    try:
        await redis.store.measure_clock()
        began = time.perf_counter()
        await redis.store.measure_clock()
        took = _ms(began)
        end = await redis.feed.end()
    except (ShortlinksError, *REDIS_UNAVAILABLE_ERRORS) as error:
        return Finding("redis", False, f"{where}: {error}", advice)
    return Finding("redis", True, f"{where}: {took}, change feed at {end}")


async def _schema(postgres: Postgres) -> Finding:
    try:
        async with postgres.connection() as connection:
            await check_schema(connection)
            revision = await connection.fetchval("SELECT revision FROM schema_version")
    except ConfigurationError as error:
        return Finding("schema", False, "does not fit this version", str(error))
    except ShortlinksError as error:
        return Finding("schema", False, str(error), _DATABASE_ADVICE)
    return Finding("schema", True, f"revision {revision}")


async def _backlog(postgres: Postgres) -> Finding:
    try:
        async with postgres.connection() as connection:
            found = await read_backlog(connection)
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Finding("outbox", False, str(error), "See the line of the schema.")
    return Finding(
        "outbox",
        found.oldest_s <= BACKLOG_TOLERANCE_S and found.bulk_oldest_s <= BULK_TOLERANCE_S,
        f"{found.rows} changes wait, the oldest for {found.oldest_s:.1f} s"
        + (
            f"; {found.bulk_links} links created in bulk for {found.bulk_oldest_s:.1f} s"
            if found.bulk_links
            else ""
        ),
        "No relay works: start `shortlinks-writer relay`, or read its log.",
    )


async def _clocks(postgres: Postgres, redis: Cache) -> Finding:
    try:
        async with postgres.connection() as connection:
            before = unix_ms()
            there = await connection.fetchval(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            )
        of_postgres = there - before
        of_redis = await redis.store.measure_clock()
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Finding("clocks", False, str(error), _DATABASE_ADVICE)
    worst = max(abs(of_postgres), abs(of_redis), abs(of_postgres - of_redis))
    return Finding(
        "clocks",
        worst <= CLOCK_TOLERANCE_MS,
        f"from ours: postgres {of_postgres:+d} ms, redis {of_redis:+d} ms",
        "Let NTP set the clocks: links expire and records are refused by them.",
    )


async def _coherence(postgres: Postgres, redis: Cache) -> Finding:
    try:
        records = await coherence.some_links(postgres, SAMPLE)
        found = await coherence.differences(postgres, redis, records)
    except (ShortlinksError, asyncpg.PostgresError) as error:
        return Finding("coherence", False, str(error), "See the lines above.")
    return Finding(
        "coherence",
        not found,
        f"{len(records)} links compared, {len(found)} differ"
        + (f", such as {found[0].key}" if found else ""),
        "See all with `shortctl cache verify --all`; `shortctl cache rebuild` mends them.",
    )


async def _http(http: httpx.AsyncClient, name: str, url: str, headers: dict[str, str]) -> Finding:
    try:
        await http.get(url, headers=headers)  # so that the second one finds a connection
        began = time.perf_counter()
        response = await http.get(url, headers=headers)
    except httpx.TransportError as error:
        seen = f"{url}: {type(error).__name__} {error}"
        return Finding(name, False, seen, f"Check that the {name} runs and its address.")
    seen = f"{url}: {response.status_code}, {_ms(began)}"
    if response.status_code in {401, 403}:
        return Finding(name, False, seen, "The key is not accepted: `shortctl keys list`.")
    return Finding(name, response.is_success, seen, f"Read the log of the {name}.")


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
