"""Rebuilds the link cache in Redis from PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shortcore.cache.change_feed import Change
from shortcore.cache.store import Published
from shortcore.cache.wiring import Cache
from shortcore.clock import unix_ms
from shortcore.links.record import LinkKey
from shortcore.storage.postgres import Postgres
from shortctl.admin.stored_links import Records, every_link, links_by_key


@dataclass(frozen=True, slots=True)
class Progress:
    """Numbers of links: those offered to Redis, and those that Redis stored."""

    links: int = 0
    stored: int = 0


async def rebuild(postgres: Postgres, redis: Cache, rate: int) -> AsyncIterator[Progress]:
    """Offer every link to Redis, at most `rate` links per second; yields after each batch.

    This is safe while the services run: each write is the usual compare-and-set on the version.
    If a link replaces an older record, the change feed notifies the redirectors, because they may
    have cached that record.
    """
    began = time.monotonic()
    links = stored = 0
    read_at_ms = unix_ms()
    async for records in every_link(postgres):
        await redis.store.measure_clock()  # clocks may be set during a rebuild of hours
        results = await _offer(redis, records, read_at_ms)
        while late := [key for key, result in results.items() if result is Published.EXPIRED]:
            # This process was paused after the read, so these links may have changed since.
            read_at_ms = unix_ms()
            again = await _offer(redis, await links_by_key(postgres, late), read_at_ms)
            results = {k: each for k, each in results.items() if k not in late} | again
        links += len(records)
        stored += sum(result is Published.TAKEN for result in results.values())
        yield Progress(links, stored)
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
