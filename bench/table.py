"""A table of any size: filled by the server itself, and what one statement costs on it."""

import random
import time
from dataclasses import dataclass

import asyncpg

from bench.requests import HOST, LETTERS
from bench.world import SECRET
from redirector import repository
from shortcore.codes import CodeSpace
from shortcore.links import LinkKey
from shortctl.servers import open_database

SAMPLES = 3000
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


async def add_domain(url: str) -> int:
    """Add the default domain; returns its id."""
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval("INSERT INTO domains (host) VALUES ($1) RETURNING id", HOST)
        )
    finally:
        await connection.close()


async def fill(url: str, domain: int, since: int, until: int) -> None:
    """Add the links with ids from `since` to `until` - 1, then do what autovacuum would.

    The first GENERATED have codes that the services would make; a redirector refuses others.
    """
    connection = await asyncpg.connect(url)
    try:
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
    finally:
        await connection.close()


@dataclass(frozen=True)
class Costs:
    """Times of single statements in µs, one client, warm; sizes in bytes a link."""

    links: int
    lookup_us: float
    lookup_p99_us: float
    create_us: float
    create_p99_us: float
    table_bytes: float
    index_bytes: dict[str, float]


async def costs(url: str, domain: int, size: int) -> Costs:
    """Measure the table that `fill` has brought to `size`."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetchval("SELECT count(*) FROM links", timeout=600)
        codes = await connection.fetch(
            "SELECT code FROM links WHERE id = ANY($1::bigint[])",
            random.Random(size).sample(range(size), min(size, SAMPLES)),
            timeout=600,
        )
        keys = [LinkKey(f"{HOST}/{row['code']}") for row in codes]
        table = await connection.fetchval("SELECT pg_table_size('links')")
        indexes = await connection.fetch(INDEXES)
        creates = await _timed_creates(connection, domain, size)
    finally:
        await connection.close()
    lookups = await _timed_lookups(url, keys)
    return Costs(
        links=rows,
        lookup_us=_at(lookups, 0.5),
        lookup_p99_us=_at(lookups, 0.99),
        create_us=_at(creates, 0.5),
        create_p99_us=_at(creates, 0.99),
        table_bytes=round(table / rows, 1),
        index_bytes={row["name"]: round(row["bytes"] / rows, 1) for row in indexes},
    )


async def _timed_lookups(url: str, keys: list[LinkKey]) -> list[float]:
    """Time the redirector's statement for one key; the first pass warms what can be warm."""
    times: list[float] = []
    async with open_database(url) as postgres:
        for turn in range(3):
            for key in keys:
                began = time.perf_counter()
                rows = await repository.find_links(postgres, [key])
                if turn:
                    times.append(time.perf_counter() - began)
                if key not in rows:
                    raise RuntimeError(f"{key} is not found")
    return times


async def _timed_creates(
    connection: "asyncpg.Connection[asyncpg.Record]", domain: int, size: int
) -> list[float]:
    """Time inserts, then take them back, so that sizes stay what they are called."""
    choose = random.Random(size)
    statement = await connection.prepare(CREATE)
    began_at = await connection.fetchval("SELECT clock_timestamp()")
    times = []
    for number in range(CREATES):
        code = "".join(choose.choices(LETTERS, k=NEW_CODE_LENGTH))
        began = time.perf_counter()
        await statement.fetch(-1 - number, domain, code, f"https://example.com/new/{size}/{number}")
        times.append(time.perf_counter() - began)
    await connection.execute("DELETE FROM links WHERE created_at >= $1 AND id < 0", began_at)
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


def _at(times: list[float], part: float) -> float:
    return round(sorted(times)[int(part * len(times))] * 1e6, 1)
