"""`make scale`: what grows with the number of links: lookups, creates, bytes, rebuild, start.

LINKS names the sizes, separated by commas. Each size has a database of its own on one PostgreSQL with
its default settings, so the links of the largest size do not fit into `shared_buffers`. The sizes are
measured in turns. A lookup is the redirector's own statement for one key, a create is a plain insert.
One client sends one statement after another: this shows what a size costs, not how clients share a
server.
"""

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median, quantiles

import asyncpg
import httpx
import redis

from bench import machine, report, traffic
from bench.deployment import Deployment, deploy, generated_codes, open_servers
from bench.load import send_all
from bench.report import ratio
from bench.rounds import progress
from bench.traffic import HOST, LETTERS
from redirector.lookup import repository
from shortcore.links.record import LinkKey
from shortctl.admin.servers import open_database

LOOKUPS = 4000
SAMPLE = 2000
CREATES = 500
CACHED = 100_000
REBUILT = 1_000_000
"""Up to this size, links are also put into Valkey and into a local cache."""

LOOKUP_MAX = 1.2
"""A lookup at the largest size may cost so many times a lookup at the smallest."""

CREATE = "INSERT INTO links (id, domain_id, code, target) VALUES ($1, 1, $2, $3)"
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_relation_size(indexrelid) AS bytes
FROM pg_index WHERE indrelid = 'links'::regclass ORDER BY 1
"""


class Size:
    """One number of links: its deployment, and the values measured, by what they are."""

    def __init__(self, links: int, deployment: Deployment) -> None:
        self.links = links
        self.values: dict[str, list[float]] = defaultdict(list)
        self._deployment = deployment
        self._url = deployment.stack.postgres_url

    def fill(self) -> None:
        """Add the links to PostgreSQL and measure the sizes of table and indexes."""
        self._timed(
            "filling PostgreSQL, s", lambda: self._deployment.fill(generated_codes(self.links))
        )
        asyncio.run(self._bytes())

    async def _bytes(self) -> None:
        connection = await asyncpg.connect(self._url)
        sizes = {"the table": await connection.fetchval("SELECT pg_table_size('links')")}
        sizes |= {row["name"]: row["bytes"] for row in await connection.fetch(INDEXES)}
        await connection.close()
        for name, total in sizes.items():
            self.values[f"PostgreSQL, {name}: bytes per link"] = [total / self.links]

    def statements(self, turn: int) -> None:
        """Measure lookups and creates."""
        choose = random.Random(f"{self.links} {turn}")
        for name, work in (("lookup", self._lookups), ("create", self._creates)):
            times = [seconds * 1e6 for seconds in asyncio.run(work(choose))]
            self.values[f"{name}, µs"].append(median(times))
            self.values[f"{name}, p99 µs"].append(quantiles(times, n=100)[-1])

    async def _lookups(self, choose: random.Random) -> list[float]:
        numbers = choose.sample(range(self.links), min(self.links, SAMPLE))
        times: list[float] = []
        async with open_database(self._url) as postgres:
            async with postgres.connection() as connection:
                rows = await connection.fetch(
                    "SELECT code FROM links WHERE id = ANY($1::bigint[])", numbers, timeout=600
                )
                server = await connection.fetchval("SELECT pg_backend_pid()")
            keys = [LinkKey(f"{HOST}/{row['code']}") for row in rows]
            for key in keys:  # the first pass warms the caches of PostgreSQL
                if not await repository.find_links(postgres, [key]):
                    raise RuntimeError(f"{key} is not found")
            cpu_s = machine.cpu_seconds(server)
            for number in range(LOOKUPS):
                start = time.perf_counter()
                await repository.find_links(postgres, [keys[number % len(keys)]])
                times.append(time.perf_counter() - start)
            cpu_s = machine.cpu_seconds(server) - cpu_s
        self.values["lookup, µs of PostgreSQL's CPU"].append(cpu_s * 1e6 / LOOKUPS)
        return times

    async def _creates(self, choose: random.Random) -> list[float]:
        connection = await asyncpg.connect(self._url)
        statement = await connection.prepare(CREATE)
        times = []
        for number in range(CREATES):
            code = "".join(choose.choices(LETTERS, k=9))
            start = time.perf_counter()
            await statement.fetch(-1 - number, code, f"https://example.com/new/{number}")
            times.append(time.perf_counter() - start)
        # Removed again, so that each size stays as large as its name says.
        await connection.execute("DELETE FROM links WHERE id < 0")
        await connection.close()
        return times

    def rebuild(self) -> None:
        """Measure how long Valkey takes to fill, and what a link takes there."""
        with redis.Redis.from_url(self._deployment.stack.redis_url) as client:
            before = client.info("memory")["used_memory"]
            self._timed("rebuilding an empty Valkey, s", self._deployment.fill_redis)
            used = client.info("memory")["used_memory"] - before
        self.values["Valkey: bytes per link"] = [used / self.links]
        self._timed("rebuilding a full Valkey, s", self._deployment.fill_redis)

    def local_cache(self) -> None:
        """Measure how much a redirector's memory grows per cached link."""
        paths = [f"/{code}" for code in generated_codes(min(CACHED, self.links))]
        part = self._deployment.stack.redirector(
            L1_MAX_ENTRIES=str(CACHED), L1_MAX_BYTES=str(2**30)
        )
        found = []
        for requested in (paths[: len(paths) // 100], paths):
            stream = traffic.gets(self._deployment.servers.folder / "cache.requests", requested)
            send_all(int(part.url.rpartition(":")[2]), stream)
            entries = part.metric("shortlinks_local_cache_entries")
            found.append((machine.rss_mib(part.child.pid) * 2**20, entries))
        part.child.stop()
        (before, few), (after, many) = found
        self.values["local cache: bytes per link"] = [(after - before) / (many - few)]

    def start(self) -> None:
        """Measure a redirector's start, up to its first redirect."""
        self._timed("start of a redirector, s", self._first_redirect)

    def _first_redirect(self) -> None:
        part = self._deployment.stack.redirector()
        url = f"{part.url}/{next(generated_codes(1))}"
        response = httpx.get(url, headers={"host": HOST}, trust_env=False)
        if response.status_code != 302:
            raise RuntimeError(f"{url}: {response.status_code}")

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        start = time.monotonic()
        work()
        self.values[name].append(time.monotonic() - start)


def main() -> int:
    """Measure and print; returns 1 if a lookup misses its target."""
    numbers = sorted(map(int, (os.environ.get("LINKS") or "1000,1000000,10000000").split(",")))
    rounds = int(os.environ.get("ROUNDS") or 5)
    listed = ",".join(map(str, numbers))
    conditions = machine.conditions(f"make scale LINKS={listed} ROUNDS={rounds}")
    with open_servers() as servers, ExitStack() as stack:
        conditions |= servers.settings()
        sizes = [
            Size(links, stack.enter_context(deploy(servers, f"links_{links}", database)))
            for database, links in enumerate(numbers)
        ]
        for size in sizes:
            size.fill()
            progress(f"{size.links:>11,} links added")
        for turn in range(rounds):
            for size in sizes:
                size.statements(turn)
                progress(f"{turn + 1}/{rounds}  {size.links:>11,} links: lookups, creates")
        for size in sizes:
            if size.links <= REBUILT:
                size.rebuild()
                size.local_cache()
            size.start()
    ratios = [
        ratio(name, sizes[-1].values[name], sizes[0].values[name], LOOKUP_MAX, at_least=False)
        for name in ("lookup, µs", "lookup, µs of PostgreSQL's CPU")
    ]
    tables = {
        "Medians": _table(sizes),
        f"{numbers[-1]:,} links / {numbers[0]:,} links": report.ratio_table(ratios),
    }
    data = {"sizes": {size.links: size.values for size in sizes}, "ratios": ratios}
    report.print_result(tables, conditions, "scale", data)
    return 0 if all(each.met for each in ratios) else 1


def _table(sizes: list[Size]) -> str:
    rows = [
        [
            name,
            *(f"{median(size.values[name]):,.1f}" if name in size.values else "" for size in sizes),
        ]
        for name in sizes[0].values
    ]
    return report.table(["", *(f"{size.links:,} links" for size in sizes)], rows)


if __name__ == "__main__":
    sys.exit(main())
