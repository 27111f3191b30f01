"""A table of any size: filled by the server itself, and what one statement costs on it."""

import asyncio
import random
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import psutil

from bench.requests import HOST, LETTERS
from bench.world import SECRET
from redirector.lookup import repository
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkKey
from shortctl.admin.servers import open_database as open_client

SAMPLES = 3000
LOOKUPS = 6000
CREATES = 1000
STEP = 500_000
GENERATED = 100_000
NEW_CODE_LENGTH = 9

# Eight letters out of a hash of the id: spread over the index as permuted codes are.
FILL = """
INSERT INTO links (id, domain_id, code, target)
SELECT id, $1, (
    SELECT string_agg(substr($2, 1 + get_byte(h, at) % length($2), 1), '')
    FROM sha256(int8send(id)) AS h, generate_series(0, 7) AS at
), 'https://example.com/articles/' || id || '?from=bench'
FROM generate_series($3::bigint, $4::bigint - 1) AS id ON CONFLICT DO NOTHING
"""
CREATE = """INSERT INTO links (id, domain_id, code, target) VALUES ($1, $2, $3, $4)"""
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_relation_size(indexrelid) AS bytes
FROM pg_index WHERE indrelid = 'links'::regclass ORDER BY 1
"""


async def open_database(url: str, size: int) -> str:
    """Return the URL of the database for `size` links; it is made and migrated if it is not there."""
    from writer.migrations import upgrade  # noqa: PLC0415  # a service's code, for this alone

    name = f"links_{size}"
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    own = urlsplit(url)._replace(path=f"/{name}").geturl()
    await asyncio.to_thread(upgrade, own)
    return own


async def fill(url: str, until: int) -> float:
    """Add links until there are `until`, then do what autovacuum would; returns the seconds.

    The first GENERATED have codes that the services would make; a redirector refuses others.
    """
    began = time.monotonic()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO domains (host) VALUES ($1) ON CONFLICT DO NOTHING", HOST
        )
        domain = await connection.fetchval("SELECT id FROM domains WHERE host = $1", HOST)
        since = await connection.fetchval("SELECT coalesce(max(id) + 1, 0) FROM links", timeout=600)
        if since == until:
            return 0.0
        space = CodeSpace(SECRET.encode())
        await connection.copy_records_to_table(
            "links",
            records=(
                (number, domain, space.encode(number), f"https://example.com/articles/{number}")
                for number in range(since, min(until, GENERATED))
            ),
            columns=("id", "domain_id", "code", "target"),
        )
        for start in range(max(since, GENERATED), until, STEP):
            end = min(start + STEP, until)
            await connection.execute(FILL, domain, LETTERS, start, end, timeout=600)
        await connection.execute("VACUUM ANALYZE links", timeout=1800)
        await connection.execute("CHECKPOINT", timeout=600)
        return round(time.monotonic() - began, 1)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Sizes:
    """Bytes a link in PostgreSQL."""

    links: int
    table_bytes: float
    index_bytes: dict[str, float]


async def sizes(url: str) -> Sizes:
    """Measure the table that `fill` has made."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetchval("SELECT count(*) FROM links", timeout=600)
        table = await connection.fetchval("SELECT pg_table_size('links')")
        indexes = await connection.fetch(INDEXES)
    finally:
        await connection.close()
    return Sizes(
        rows,
        round(table / rows, 1),
        {row["name"]: round(row["bytes"] / rows, 1) for row in indexes},
    )


async def lookups(url: str, size: int, seed: int) -> tuple[list[float], float]:
    """Time the redirector's statement for one key, in µs; the first pass warms what can be warm.

    Returns the times, and the processor time that one took of the server, which holds on a machine
    that others use, too.
    """
    choose = random.Random(f"{size} {seed}")
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT code FROM links WHERE id = ANY($1::bigint[])",
            choose.sample(range(size), min(size, SAMPLES)),
            timeout=600,
        )
    finally:
        await connection.close()
    keys = [LinkKey(f"{HOST}/{row['code']}") for row in rows]
    times: list[float] = []
    async with open_client(url) as postgres:
        for key in keys:
            if not await repository.find_links(postgres, [key]):
                raise RuntimeError(f"{key} is not found")
        async with postgres.connection() as client:
            server = psutil.Process(await client.fetchval("SELECT pg_backend_pid()"))
        used = server.cpu_times()
        for number in range(LOOKUPS):
            began = time.perf_counter()
            await repository.find_links(postgres, [keys[number % len(keys)]])
            times.append((time.perf_counter() - began) * 1e6)
        now = server.cpu_times()
    return times, (now.user + now.system - used.user - used.system) * 1e6 / LOOKUPS


async def creates(url: str, size: int, seed: int) -> list[float]:
    """Time inserts, in µs, then take them back, so that sizes stay what they are called."""
    choose = random.Random(f"{size} {seed}")
    times = []
    connection = await asyncpg.connect(url)
    try:
        domain = await connection.fetchval("SELECT id FROM domains WHERE host = $1", HOST)
        statement = await connection.prepare(CREATE)
        for number in range(CREATES):
            code = "".join(choose.choices(LETTERS, k=NEW_CODE_LENGTH))
            target = f"https://example.com/new/{size}/{number}"
            began = time.perf_counter()
            await statement.fetch(-1 - number, domain, code, target)
            times.append((time.perf_counter() - began) * 1e6)
        await connection.execute("DELETE FROM links WHERE id < 0")
    finally:
        await connection.close()
    return times


async def any_link(url: str) -> tuple[str, str]:
    """Return the code and the target of a link."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("SELECT code, target FROM links WHERE id = 17")
    finally:
        await connection.close()
    if row is None:
        raise RuntimeError("the table is empty")
    return row["code"], row["target"]


async def some_codes(url: str, count: int) -> list[str]:
    """Return the codes of `count` links."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT code FROM links WHERE id < $1", count, timeout=600)
    finally:
        await connection.close()
    return [row["code"] for row in rows]
