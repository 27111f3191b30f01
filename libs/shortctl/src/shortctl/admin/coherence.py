"""Whether Redis and PostgreSQL agree on links, and how Redis gets all of them again."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shortcore.cache.change_feed import Change
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import Published
from shortcore.cache.wiring import Cache
from shortcore.clock import unix_ms
from shortcore.links.record import Kind, LinkKey, LinkRecord, link_key, split_key
from shortcore.links.row_mapping import RECORD_COLUMNS, Row, record_of
from shortcore.storage.postgres import Postgres

BATCH = 500

RECHECK_AFTER_S = 1.0
"""A change is in PostgreSQL before it is in Redis: only what still differs then is told."""

_SELECT = f"""SELECT d.host, l.domain_id, l.code, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id"""  # noqa: S608  # a constant of ours
_AFTER = f"{_SELECT} WHERE (l.domain_id, l.code) > ($1, $2) ORDER BY l.domain_id, l.code LIMIT $3"
_SAMPLE = f"""{_SELECT} WHERE (l.domain_id, l.code) IN (
    SELECT domain_id, code FROM links TABLESAMPLE SYSTEM ($1) ORDER BY random() LIMIT $2)"""  # noqa: S608
_NAMED = f"""{_SELECT} JOIN unnest($1::text[], $2::text[]) AS k (host, code)
    ON k.host = d.host AND k.code = l.code"""

Records = dict[LinkKey, LinkRecord]


@dataclass(frozen=True, slots=True)
class Difference:
    """A key on which the two disagree, and what each of them has."""

    key: LinkKey
    redis: LinkRecord
    postgres: LinkRecord | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How far a rebuild came: links offered, and those that Redis lacked or had older."""

    links: int
    taken: int


async def every_link(postgres: Postgres) -> AsyncIterator[Records]:
    """Yield all links in batches by key; each batch is a short query of its own."""
    domain_id, code = 0, ""
    while True:
        async with postgres.connection() as connection:
            rows = await connection.fetch(_AFTER, domain_id, code, BATCH)
        if not rows:
            return
        yield _records(rows)
        domain_id, code = rows[-1]["domain_id"], rows[-1]["code"]


async def some_links(postgres: Postgres, size: int) -> Records:
    """Return about `size` links from all over the table, without reading all of it."""
    async with postgres.connection() as connection:
        estimate = await connection.fetchval(
            "SELECT reltuples FROM pg_class WHERE oid = 'links'::regclass"
        )
        # Twice what is asked for, as pages are sampled, not rows; all of a small table.
        percent = min(100.0, max(200 * size / estimate, 0.01)) if estimate > 0 else 100.0
        return _records(await connection.fetch(_SAMPLE, percent, size))


async def differences(
    postgres: Postgres, redis: Cache, records: Records, *, recheck_s: float = RECHECK_AFTER_S
) -> list[Difference]:
    """Return where Redis has another record than PostgreSQL; having none is no difference."""
    if not await _differing(redis, records, records):
        return []
    await asyncio.sleep(recheck_s)
    suspects = [each.key for each in await _differing(redis, records, records)]
    return await _differing(redis, suspects, await _named(postgres, suspects))


async def orphans(
    postgres: Postgres, redis: Cache, prefix: str, *, recheck_s: float = RECHECK_AFTER_S
) -> AsyncIterator[Difference]:
    """Yield what Redis has of links that PostgreSQL does not have; reads all keys of Redis."""
    # The name of a key's record, cut where the key would stand.
    before, _, after = CacheKeys(prefix).link(LinkKey("\0")).partition("\0")
    batch: list[LinkKey] = []
    async for name in redis.client.scan_iter(match=_escaped(before) + "*", count=BATCH):
        batch.append(LinkKey(name.decode().removeprefix(before).removesuffix(after)))
        if len(batch) == BATCH:
            for orphan in await _orphans(postgres, redis, batch, recheck_s):
                yield orphan
            batch = []
    for orphan in await _orphans(postgres, redis, batch, recheck_s):
        yield orphan


async def rebuild(postgres: Postgres, redis: Cache, rate: int) -> AsyncIterator[Rebuilt]:
    """Offer every link to Redis, `rate` a second at the most, and yield how far it came.

    Safe while serving: each record goes through the same compare-and-set as any other. Where an
    older record stood the redirectors are told, as they may have read it.
    """
    began = time.monotonic()
    links = taken = 0
    read_at_ms = unix_ms()
    async for records in every_link(postgres):
        await redis.store.measure_clock()  # a rebuild may take hours, in which a clock is set
        results = await _offer(redis, records, read_at_ms)
        while late := [key for key, result in results.items() if result is Published.EXPIRED]:
            # Somebody held this process up, and the links went on meanwhile.
            read_at_ms = unix_ms()
            again = await _offer(redis, await _named(postgres, late), read_at_ms)
            results = {k: each for k, each in results.items() if k not in late} | again
        links += len(records)
        taken += sum(result is Published.TAKEN for result in results.values())
        yield Rebuilt(links, taken)
        await asyncio.sleep(max(0.0, began + links / rate - time.monotonic()))
        read_at_ms = unix_ms()


async def _offer(redis: Cache, records: Records, read_at_ms: int) -> dict[LinkKey, Published]:
    before = await redis.store.get_many(list(records))
    results = await redis.store.publish_many(list(records.items()), read_at_ms=read_at_ms)
    changes = [
        Change(key, record.version, unix_ms())
        for (key, record), old, result in zip(records.items(), before, results, strict=True)
        if old is not None and result is Published.TAKEN
    ]
    if changes:
        await redis.feed.append(changes)
    return dict(zip(records, results, strict=True))


def describe(record: LinkRecord | None) -> str:
    """Return a record in a line for people."""
    if record is None:
        return "no row"
    kind = record.kind.name.lower()
    return f"version {record.version}, {kind}" + (f", {record.target}" if record.target else "")


async def _differing(
    redis: Cache, keys: Iterable[LinkKey], expected: Mapping[LinkKey, LinkRecord]
) -> list[Difference]:
    ordered = list(keys)
    if not ordered:
        return []
    found = await redis.store.get_many(ordered)
    return [
        Difference(key, record, expected.get(key))
        for key, record in zip(ordered, found, strict=True)
        if record is not None and not _same(record, expected.get(key))
    ]


def _same(redis: LinkRecord, postgres: LinkRecord | None) -> bool:
    return redis.kind is Kind.ABSENT if postgres is None else redis == postgres


async def _orphans(
    postgres: Postgres, redis: Cache, keys: Sequence[LinkKey], recheck_s: float
) -> list[Difference]:
    known = await _named(postgres, keys)
    lost = [key for key in keys if key not in known]
    if not await _differing(redis, lost, {}):
        return []
    await asyncio.sleep(recheck_s)
    found = await _differing(redis, lost, await _named(postgres, lost))
    return [each for each in found if each.postgres is None]


async def _named(postgres: Postgres, keys: Sequence[LinkKey]) -> Records:
    hosts, codes = zip(*map(split_key, keys), strict=True) if keys else ((), ())
    async with postgres.connection() as connection:
        return _records(await connection.fetch(_NAMED, list(hosts), list(codes)))


def _records(rows: Iterable[Row]) -> Records:
    return {link_key(row["host"], row["code"]): record_of(row) for row in rows}


def _escaped(glob: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in glob)
