"""Relays in the test's own process or in one of theirs, and links for them to deliver."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import asyncpg
import msgspec
import pytest

from harness.tables import HOST, Table
from harness.waiting import until_async
from shortcore.cache.change_feed import START, Change, ChangeFeed
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore
from shortcore.cache.ttls import CacheTtls
from shortcore.links.record import LinkId, link_key
from shortcore.settings.loader import load
from shortcore.settings.relay import RelaySettings
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import open_postgres
from shortcore.storage.redis import open_redis
from shortctl.embedded.ports import free_port
from writer.links.repository import (
    copy_links,
    fence_purge,
    find_link,
    insert_links,
    purge_link,
    save_link,
)
from writer.links.stored import LinkValues, NewLink, StoredLink
from writer.relay.relay import Relay

RUN = (
    "import asyncio; from shortcore.settings.loader import load; from shortcore.settings.relay import RelaySettings;"
    "from writer.relay.process import run; asyncio.run(run(load(RelaySettings)))"
)


class Links:
    """Changes links as the writer does: the row and its outbox row in one transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.sql = connection

    async def domain(self) -> None:
        await Table(self.sql).domain(HOST)

    async def put(self, code: str, target: str) -> int:
        """Create or edit a link; returns its version."""
        async with self.sql.transaction():
            found = await find_link(self.sql, HOST, code, lock=True)
            if found is None:
                new = NewLink(LinkId(0), 1, HOST, code, custom=False, values=LinkValues(target))
                made = (await insert_links(self.sql, [new]))[new.id]
            else:
                made = await save_link(
                    self.sql, found, msgspec.structs.replace(found.values, target=target)
                )
        return made.version

    async def purge(self, code: str) -> int:
        """Remove a link for ever; returns the version of its absence."""
        async with self.sql.transaction():
            await fence_purge(self.sql)
            return await purge_link(self.sql, await self._locked(code))

    async def copy(self, codes: Sequence[str], *, custom: Collection[str] = ()) -> None:
        """Create many at once, as large batches and imports do."""
        first = await self.sql.fetchval("SELECT nextval('link_ids')")
        news = [
            NewLink(
                id=LinkId(first + number),
                domain_id=1,
                host=HOST,
                code=code,
                custom=code in custom,
                values=LinkValues(f"https://{code}.example/"),
            )
            for number, code in enumerate(codes)
        ]
        async with self.sql.transaction():
            await copy_links(self.sql, news)

    async def _locked(self, code: str) -> StoredLink:
        link = await find_link(self.sql, HOST, code, lock=True)
        assert link is not None, code
        return link

    async def waiting(self) -> int:
        count: int = await self.sql.fetchval("SELECT count(*) FROM outbox")
        return count

    async def waiting_many(self) -> int:
        count: int = await self.sql.fetchval("SELECT count(*) FROM outbox_many")
        return count


class RelayInProcess:
    """A relay in the test's event loop, with what it needs and what a redirector would see."""

    def __init__(self, relay, store, feed, settings):
        self.relay: Relay = relay
        self.store: CacheStore = store
        self.feed: ChangeFeed = feed
        self.settings: RelaySettings = settings

    async def target(self, code: str) -> str | None:
        record = await self.store.get(link_key(HOST, code))
        return None if record is None else record.target


@contextlib.asynccontextmanager
async def relay_in_process(database_url, redis_url, prefix, **settings):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(database_url, redis_url, prefix, **settings).items():
            patch.setenv(name, value)
        loaded = load(RelaySettings)
    postgres = await open_postgres(
        database_url,
        name="postgres",
        pool_size=4,
        statement_cache=64,
        timeout_ms=2000,
        breaker=breaker(),
        application="test",
    )
    timeout_ms = loaded.relay_redis_timeout_ms
    client = open_redis(redis_url, timeout_ms=timeout_ms, pool_size=8, application="test")
    keys = CacheKeys(prefix)
    store = CacheStore(
        client,
        keys,
        ttls=CacheTtls(86_400_000, 30_000, 86_400_000, 2000),
        timeout_ms=timeout_ms,
        breaker=breaker(),
        now_ms=lambda: int(time.time() * 1000),
    )
    feed = ChangeFeed(client, keys, max_length=1000, max_age_s=3600)
    relay = Relay(postgres, store, feed, client, loaded)
    try:
        yield RelayInProcess(relay, store, feed, loaded)
    finally:
        await relay.stop()
        await postgres.close()
        await store.close()


def environment(database_url, redis_url, prefix, **settings):
    values = {"postgres_url": database_url, "redis_url": redis_url, "redis_prefix": prefix}
    return {f"SHORTLINKS_{k.upper()}": str(v) for k, v in (values | settings).items()}


def breaker():
    return Breaker(failures=3, open_s=0.05, clock=time.monotonic)


async def all_changes(feed: ChangeFeed) -> list[Change]:
    position, changes = START, []
    while True:
        batch = await feed.read(position, wait_ms=1)
        assert not batch.gap
        if batch.position == position:
            return changes
        changes += batch.changes
        position = batch.position


@contextlib.contextmanager
def process(database_url, redis_url, prefix, log: Path, **settings):
    env = os.environ | environment(
        database_url, redis_url, prefix, relay_admin_port=free_port(), **settings
    )
    with log.open("wb") as out:
        relay = subprocess.Popen([sys.executable, "-c", RUN], env=env, stdout=out, stderr=out)
    try:
        yield relay
    finally:
        relay.kill()
        relay.wait()


@contextlib.asynccontextmanager
async def killed_before_delete(
    one: RelayInProcess, database_url, redis_url, prefix, log: Path, told: int
):
    """Have a relay tell the feed of the `told` changes of the block; kill it as it would delete."""
    await one.relay.monitor.check()  # makes the row of feed_position
    holder = await asyncpg.connect(database_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT * FROM feed_position FOR UPDATE")
    yield
    # A call to Redis that takes too long on a busy machine would be repeated: the feed would then
    # never tell of exactly so many changes.
    timeouts = {"postgres_write_timeout_ms": 60_000, "relay_redis_timeout_ms": 60_000}
    with process(database_url, redis_url, prefix, log, **timeouts) as victim:

        async def all_told() -> bool:
            return len(await all_changes(one.feed)) == told

        await until_async(all_told, f"the feed has {told} changes")
        victim.kill()
        victim.wait()
    await transaction.rollback()
    await holder.close()
