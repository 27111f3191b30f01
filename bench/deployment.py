"""What is measured: PostgreSQL and Valkey, and deployments of Shortlinks with links on them.

The two sides of a comparison share the servers. Each has its own databases in them, written by its own
programs, so that they may differ in schema and in the form of records.
"""

import asyncio
import contextlib
import random
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import redis
from harness.stack import Part, Stack

from bench.machine import STORE_CORES, pin
from bench.traffic import HOST
from shortcore.links.codes import CodeSpace
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey

SECRET = "a secret for benchmarks only"
SETTINGS = "SELECT name, current_setting(name) AS setting FROM pg_settings WHERE name = ANY($1)"
SERVER_OPTIONS = ("server_version", "fsync", "synchronous_commit", "full_page_writes",
                  "shared_buffers", "max_wal_size", "checkpoint_timeout")  # fmt: skip


@dataclass(frozen=True)
class Servers:
    """A PostgreSQL with default settings (durable) and a Valkey, both running."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    def database(self, name: str) -> str:
        """Create a database and return its URL."""
        asyncio.run(_query(self.postgres.url, f"CREATE DATABASE {name}"))
        return urlsplit(self.postgres.url)._replace(path=f"/{name}").geturl()

    def redis_database(self, number: int) -> str:
        """Return the URL of one of Valkey's 16 databases."""
        return self.valkey.url.removesuffix("/0") + f"/{number}"

    def empty(self, number: int) -> None:
        """Remove everything from one of Valkey's databases."""
        with redis.Redis.from_url(self.redis_database(number)) as client:
            client.flushdb()

    def settings(self) -> dict[str, str]:
        """Return the settings of PostgreSQL that affect the cost of a write."""
        rows = asyncio.run(_query(self.postgres.url, SETTINGS, [*SERVER_OPTIONS]))
        return {f"PostgreSQL {row['name']}": row["setting"] for row in rows}


@contextlib.contextmanager
def open_servers() -> Iterator[Servers]:
    """Start PostgreSQL and Valkey in a temporary folder."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shortlinks-")))
        folder.chmod(0o711)  # root runs PostgreSQL as another user, who must be able to enter
        servers = Servers(
            folder,
            EmbeddedPostgres(folder / "postgres"),
            EmbeddedValkey(folder / "valkey", options={"maxmemory": "4gb"}),
        )
        for server in (servers.postgres, servers.valkey):
            server.start()
            stack.callback(server.stop)
            pin(server.pid, STORE_CORES)
        yield servers


@dataclass
class Deployment:
    """Shortlinks on databases of its own."""

    servers: Servers
    stack: Stack

    def start(self, codes: Iterable[str]) -> None:
        """Add a link for each code to both databases, and start a relay."""
        self.fill(codes)
        self.fill_redis()
        self.relay = self._pinned(self.stack.relay())

    @cached_property
    def writer(self) -> Part:
        """The writer, started at first use."""
        return self._pinned(self.stack.writer())

    def fill(self, codes: Iterable[str]) -> None:
        """Migrate the database and add a link for each code."""
        self._run("shortlinks-writer", "migrate")
        asyncio.run(_fill(self.stack.postgres_url, codes))

    def fill_redis(self) -> None:
        """Put every link into Redis."""
        self._run("shortctl", "cache", "rebuild", "--rate", "1000000000")

    def _pinned(self, part: Part) -> Part:
        pin(part.child.pid, STORE_CORES)
        return part

    def _run(self, *command: str) -> None:
        subprocess.run(
            self.stack.command(*command),
            env=self.stack.environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def deploy(
    servers: Servers, name: str, number: int, checkout: Path | None = None
) -> Iterator[Deployment]:
    """Use the databases `name` and `number`, and the programs of `checkout`; stop them at the end."""
    settings = {
        "CODE_SECRET": SECRET,
        "REDIS_PREFIX": "bench:",
        "DEFAULT_DOMAIN": HOST,
        "LOG_LEVEL": "warning",
    }
    folder = servers.folder / name
    folder.mkdir(exist_ok=True)
    with Stack(
        folder,
        servers.database(name),
        servers.redis_database(number),
        settings=settings,
        programs=None if checkout is None else checkout / ".venv" / "bin",
    ) as stack:
        yield Deployment(servers, stack)


def generated_codes(links: int) -> Iterator[str]:
    """Yield the codes that the writer would generate."""
    space = CodeSpace(SECRET.encode())
    return (space.encode(number) for number in range(links))


def shuffled(codes: Sequence[str]) -> list[str]:
    """Return the codes in random order, so that a link's popularity does not depend on its age."""
    return random.Random(1).sample(codes, k=len(codes))


async def _query(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


async def _fill(url: str, codes: Iterable[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO domains (host) VALUES ($1) ON CONFLICT DO NOTHING", HOST
        )
        domain = await connection.fetchval("SELECT id FROM domains WHERE host = $1", HOST)
        await connection.copy_records_to_table(
            "links",
            records=(
                (number, domain, code, f"https://example.com/articles/{number}?from=bench")
                for number, code in enumerate(codes)
            ),
            columns=("id", "domain_id", "code", "target"),
        )
        await connection.execute("SELECT setval('link_ids', max(id) + 1) FROM links")
        await connection.execute("VACUUM ANALYZE links")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
