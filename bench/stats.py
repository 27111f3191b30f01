"""`make bench-stats`: how long the API takes to answer with statistics.

One link of LINKS has ten million clicks over a year, in every quarter of an hour, with as many values a
day as the worker keeps. The other links have three days with clicks each. Domains and all links have four
times the rows of a link, one for each click stream. REQUESTS requests of each kind are sent one after
another over one connection, after a tenth as many that are not counted.
"""

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import quantiles

import asyncpg
import httpx
from harness.stack import Part

from bench import machine, report
from bench.deployment import deploy, generated_codes, open_servers
from bench.report import Ratio
from bench.rounds import progress
from bench.traffic import HOST
from shortcore.clicks.rollups import DIMENSIONS, SLOTS, DayRollup, Kind
from writer.worker.retention import ensure_partitions

TARGET_MS = 50.0
"""Target: p95 of a year by day of a link with ten million clicks among a million links."""

CLICKS = 10_000_000
DAYS = 365
STREAMS = 4
HOT = 4
"""Id of the link with the clicks; its stream is 0."""

VALUES = 500
OTHERS_DAYS = 3
SHAPES = 8
"""Different days of a subject; the rows of a year repeat them."""

OTHERS = f"""
INSERT INTO clicks_daily
SELECT 1, id, $1::date - (id * 7 + n * 97) % {DAYS}, id % {STREAMS}, 3, 2, $3, $4, $5
FROM generate_series(0, $2::integer - 1) AS id, generate_series(0, {OTHERS_DAYS - 1}) AS n
WHERE id <> {HOT}
"""
TOTALS = """
INSERT INTO link_totals SELECT id, 1 + 2000000 / (1 + id), 1000000 / (1 + id), now()
FROM generate_series(0, $1::integer - 1) AS id WHERE id % 10 < 9
"""


@dataclass
class Measured:
    """One kind of request: its times in ms, the CPU times a request in ms, and the response's size."""

    name: str
    ms: list[float]
    writer_cpu_ms: float
    postgres_cpu_ms: float
    size: int

    def percentile(self, number: int) -> float:
        """Return a percentile of the times."""
        return quantiles(self.ms, n=100)[number - 1]


def main() -> int:
    """Measure and print; returns 1 if the target is missed."""
    links = int(os.environ.get("LINKS") or 1_000_000)
    requests = int(os.environ.get("REQUESTS") or 200)
    conditions = machine.conditions(f"make bench-stats LINKS={links} REQUESTS={requests}")
    with open_servers() as servers, deploy(servers, "stats", 0) as deployment:
        conditions |= servers.settings()
        deployment.fill(generated_codes(links))
        progress(f"{links:,} links added")
        code = asyncio.run(_fill(deployment.stack.postgres_url, links))
        progress("statistics added")
        writer = deployment.stack.writer()
        machine.pin(writer.child.pid, machine.SERVER_CORES)
        found = _measure(writer, servers.postgres.pid, deployment.stack.api_key, code, requests)
    p95 = [found[0].percentile(95)]
    ratios = [Ratio(f"{found[0].name}: p95, ms", p95, TARGET_MS, at_least=False)]
    tables = {"Statistics": _table(found), "Target": report.ratio_table(ratios)}
    report.print_result(tables, conditions, "stats", {"requests": found, "ratios": ratios})
    return 0 if ratios[0].met else 1


def _measure(writer: Part, postgres: int, key: str, code: str, requests: int) -> list[Measured]:
    today = datetime.now(UTC).date()

    def since(days: int) -> str:
        return f"from={today - timedelta(days=days - 1)}&to={today}"

    year, link = since(DAYS), f"links/{HOST}/{code}/stats"
    berlin = "timezone=Europe/Berlin"
    paths = {
        "link, a year by day, UTC": f"{link}?{year}&interval=day",
        "link, a year by day, Berlin": f"{link}?{year}&interval=day&{berlin}",
        "link, a year by month, Berlin": f"{link}?{year}&interval=month&{berlin}",
        "link, 40 days by hour, Berlin": f"{link}?{since(40)}&interval=hour&{berlin}",
        "link, a year by day and the year before": f"{link}?{year}&interval=day&compare=previous",
        "link, 30 days by day": f"{link}?{since(30)}",
        "link, countries of a year": f"{link}/country?{year}",
        "link, referrers of a year": f"{link}/referrer?{year}",
        "all links, a year by day, UTC": f"stats?{year}&interval=day",
        "all links, a year by day, Berlin": f"stats?{year}&interval=day&{berlin}",
        "all links, referrers of a year": f"stats/referrer?{year}",
        "top links of 7 days": f"stats/links?{since(7)}",
        "top links of 30 days": f"stats/links?{since(30)}",
        "list of links, newest first": "links",
        "list of links, most visited first": "links?sort=-visits",
    }
    found = []
    with httpx.Client(
        base_url=f"{writer.url}/api/v1/",
        headers={"authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=60,
    ) as client:
        for name, path in paths.items():
            # A slow request is measured less often.
            for _ in range(max(2, requests // 10)):
                response = client.get(path)
            if response.status_code == 503:  # PostgreSQL cancels what takes too long
                progress(f"{name}: 503")
                continue
            size = len(response.raise_for_status().content)
            times = []
            cpu = machine.cpu_seconds(writer.child.pid), machine.cpu_seconds(postgres)
            began = time.perf_counter()
            while len(times) < requests and (time.perf_counter() - began < 20 or len(times) < 10):
                start = time.perf_counter()
                client.get(path).raise_for_status()
                times.append((time.perf_counter() - start) * 1000)
            after = machine.cpu_seconds(writer.child.pid), machine.cpu_seconds(postgres)
            ours, theirs = ((b - a) * 1000 / len(times) for a, b in zip(cpu, after, strict=True))
            found.append(Measured(name, times, ours, theirs, size))
            progress(f"{name}: p95 {found[-1].percentile(95):.1f} ms")
    return found


async def _fill(url: str, links: int) -> str:
    """Add the statistics; returns the code of the link with the clicks."""
    today = datetime.now(UTC).date()
    connection = await asyncpg.connect(url)
    try:
        await ensure_partitions(connection, today - timedelta(days=2 * DAYS), today)  # type: ignore[arg-type]  # a connection without a pool has the same methods
        few = _few().encode()
        await connection.execute(OTHERS, today, links, *few)
        await connection.execute(TOTALS, links)
        shapes = [_full(number) for number in range(SHAPES)]
        encoded = [(shape.clicks, shape.visits, *shape.encode()) for shape in shapes]
        domain = await connection.fetchval("SELECT id FROM domains WHERE host = $1", HOST)
        for kind, subject, streams in (
            (Kind.LINK, HOT, [HOT % STREAMS]),
            (Kind.DOMAIN, domain, range(STREAMS)),
            (Kind.ALL, 0, range(STREAMS)),
        ):
            await connection.copy_records_to_table(
                "clicks_daily",
                records=(
                    (int(kind), subject, today - timedelta(days=day), stream)
                    + encoded[(day + stream) % SHAPES]
                    for day in range(DAYS)
                    for stream in streams
                ),
            )
        await connection.execute("VACUUM ANALYZE clicks_daily, link_totals")
        await connection.execute("CHECKPOINT")
        code: str = await connection.fetchval("SELECT code FROM links WHERE id = $1", HOT)
    finally:
        await connection.close()
    return code


def _few() -> DayRollup:
    rollup = DayRollup()
    for slot in (3, 40, 41):
        values = ["DE", "BE", "example.org", "Chrome", "Windows", "desktop", "de"]
        rollup.add(slot, values, visit=slot > 3, visitor=slot.to_bytes(8, "big"))
    return rollup


def _full(seed: int) -> DayRollup:
    """Return the rollup of a day with many clicks: full series, values and sketch."""
    choose = random.Random(seed)
    rollup = DayRollup()
    sizes = [50, VALUES, VALUES, 20, 15, 4, 40, 30, 10, VALUES, 40, 1]
    for number in range(CLICKS // DAYS):
        values = [
            f"{name} {int(choose.paretovariate(0.6)) % size}"
            for name, size in zip(DIMENSIONS, sizes, strict=True)
        ]
        rollup.add(
            number % SLOTS,
            values,
            visit=choose.random() < 0.8,
            visitor=choose.getrandbits(14).to_bytes(8, "big"),
        )
    return rollup


def _table(found: list[Measured]) -> str:
    head = ("request", "p50, ms", "p95", "p99", "writer's CPU, ms", "PostgreSQL's CPU, ms", "KiB")
    rows = [
        (
            each.name,
            *(f"{each.percentile(number):.1f}" for number in (50, 95, 99)),
            f"{each.writer_cpu_ms:.1f}",
            f"{each.postgres_cpu_ms:.1f}",
            f"{each.size / 1024:.0f}",
        )
        for each in found
    ]
    return report.table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
