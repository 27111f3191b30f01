"""What stands behind the services while they are measured: stores, links, writer and relay."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis
from harness.stack import Part, Stack

from bench.machine import pin, roles
from bench.requests import HOST
from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import encode_record
from shortcore.links.codes import CodeSpace
from shortcore.settings.storage import CacheSettings
from shortctl.admin.servers import open_database
from shortctl.admin.stored_links import every_link
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey

SECRET = "a secret of the benchmark alone"
PREFIX = "bench:"
SERVER_OPTIONS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers",
                  "max_wal_size", "checkpoint_timeout", "wal_compression", "server_version")  # fmt: skip


@dataclass
class World:
    """PostgreSQL and Valkey with `codes` in them, the most popular first; stopped at the end."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    stack: Stack
    writer: Part
    relay: Part
    codes: Sequence[str]
    postgres_settings: dict[str, str]

    def pin_stores(self, cores: frozenset[int]) -> None:
        """Bind the stores, and the writer and relay, which idle while redirects are measured."""
        for pid in (self.postgres.pid, self.valkey.pid):
            pin(pid, cores)
        for part in (self.writer, self.relay):
            pin(part.child.pid, cores)

    def other_redis(self) -> str:
        """Return the URL of an empty database beside the one with links."""
        return self.valkey.url.removesuffix("/0") + "/1"

    def empty_other_redis(self) -> None:
        """Empty it."""
        with redis.Redis.from_url(self.other_redis()) as client:
            client.flushdb()


@contextlib.contextmanager
def open_world(links: int) -> Iterator[World]:
    """Start everything in a temporary folder and put `links` links into both stores."""
    with tempfile.TemporaryDirectory(prefix="shortlinks-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a server run by root as another user must enter it
        with open_stores(folder) as (postgres, valkey):
            settings = {
                "CODE_SECRET": SECRET,
                "REDIS_PREFIX": PREFIX,
                "DEFAULT_DOMAIN": HOST,
                "LOG_LEVEL": "warning",
            }
            with Stack(folder, postgres.url, valkey.url, settings=settings) as stack:
                writer, relay = stack.writer(), stack.relay()
                codes = asyncio.run(fill(postgres.url, links))
                asyncio.run(fill_redis(postgres.url, valkey.url))
                found = asyncio.run(server_settings(postgres.url))
                world = World(folder, postgres, valkey, stack, writer, relay, codes, found)
                world.pin_stores(roles().stores)
                yield world


@contextlib.contextmanager
def open_stores(folder: Path) -> Iterator[tuple[EmbeddedPostgres, EmbeddedValkey]]:
    """Start PostgreSQL with its own defaults (it is durable) and Valkey, and migrate."""
    from writer.migrations import upgrade  # noqa: PLC0415  # a service's code, for this alone

    postgres = EmbeddedPostgres(folder / "postgres")
    valkey = EmbeddedValkey(folder / "valkey", options={"maxmemory": "4gb"})
    postgres.start()
    try:
        valkey.start()
        upgrade(postgres.url)
        yield postgres, valkey
    finally:
        if valkey.running:
            valkey.stop()
        postgres.stop()


async def fill(url: str, links: int) -> list[str]:
    """Copy links with generated codes into the table; returns the codes in random order."""
    space = CodeSpace(SECRET.encode())
    codes = [space.encode(number) for number in range(links)]
    connection = await asyncpg.connect(url)
    try:
        domain = await connection.fetchval("SELECT id FROM domains WHERE host = $1", HOST)
        await connection.copy_records_to_table(
            "links",
            records=(
                (number, domain, code, f"https://example.com/articles/{number}?from=bench")
                for number, code in enumerate(codes)
            ),
            columns=("id", "domain_id", "code", "target"),
        )
        await connection.execute("SELECT setval('link_ids', $1, true)", links)
        await connection.execute("VACUUM ANALYZE links")
    finally:
        await connection.close()
    random.Random(1).shuffle(codes)
    return codes


async def fill_redis(postgres_url: str, redis_url: str) -> None:
    """Put every link into Redis as the services would, without their compare-and-set."""
    keys = CacheKeys(PREFIX)
    life_s = CacheSettings.model_fields["cache_ttl_s"].default
    with redis.Redis.from_url(redis_url) as client:
        async with open_database(postgres_url) as postgres:
            async for records in every_link(postgres):
                pipeline = client.pipeline(transaction=False)
                for key, record in records.items():
                    pipeline.set(keys.link(key), encode_record(record), ex=life_s)
                pipeline.execute()


async def server_settings(url: str) -> dict[str, str]:
    """Return the settings of PostgreSQL that decide what a write costs."""
    connection = await asyncpg.connect(url)
    try:
        return {
            name: await connection.fetchval("SELECT current_setting($1)", name)
            for name in SERVER_OPTIONS
        }
    finally:
        await connection.close()
