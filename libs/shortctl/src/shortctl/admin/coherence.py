"""Compares the records in Redis with the links in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shortcore.cache.keys import CacheKeys
from shortcore.cache.wiring import Cache
from shortcore.links.record import Kind, LinkKey, LinkRecord
from shortcore.storage.postgres import Postgres
from shortctl.admin.stored_links import BATCH, Records, links_by_key

RECHECK_AFTER_S = 1.0
"""Time until a difference is checked again: a change reaches PostgreSQL before it reaches Redis."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A link whose records in Redis and PostgreSQL differ."""

    key: LinkKey
    redis: LinkRecord
    postgres: LinkRecord | None


async def differences(postgres: Postgres, redis: Cache, records: Records) -> list[Difference]:
    """Return the links of `records` for which Redis holds another record.

    A link that is missing in Redis does not count as a difference.
    """
    if not await _differing(redis, records, records):
        return []
    await asyncio.sleep(RECHECK_AFTER_S)
    suspects = [each.key for each in await _differing(redis, records, records)]
    return await _differing(redis, suspects, await links_by_key(postgres, suspects))


async def orphans(postgres: Postgres, redis: Cache, prefix: str) -> AsyncIterator[Difference]:
    """Yield the records in Redis whose links PostgreSQL does not hold; scans all keys of Redis."""
    # The name of a record's key, split at the position of the link key.
    before, _, after = CacheKeys(prefix).link(LinkKey("\0")).partition("\0")
    batch: list[LinkKey] = []
    async for name in redis.client.scan_iter(match=_escaped(before) + "*", count=BATCH):
        batch.append(LinkKey(name.decode().removeprefix(before).removesuffix(after)))
        if len(batch) == BATCH:
            for orphan in await _orphans(postgres, redis, batch):
                yield orphan
            batch = []
    for orphan in await _orphans(postgres, redis, batch):
        yield orphan


def describe(record: LinkRecord | None) -> str:
    """Return one line about a record, for the terminal."""
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


async def _orphans(postgres: Postgres, redis: Cache, keys: Sequence[LinkKey]) -> list[Difference]:
    stored = await links_by_key(postgres, keys)
    suspects = [key for key in keys if key not in stored]
    if not await _differing(redis, suspects, {}):
        return []
    await asyncio.sleep(RECHECK_AFTER_S)
    found = await _differing(redis, suspects, await links_by_key(postgres, suspects))
    return [each for each in found if each.postgres is None]


def _escaped(glob: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in glob)
