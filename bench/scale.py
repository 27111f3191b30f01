"""What grows with the number of links: look-ups, creates, indexes, bytes, rebuild, cold start.

`SCALE=1000,1000000,10000000` names the sizes. The table is filled by PostgreSQL itself, with
codes about as long and as scattered as ours; look-ups use the redirector's own statement for one
key, creates a plain insert; one client sends one after the other, so that they show what a size
costs and not how well clients share a server. PostgreSQL runs on its defaults: the links of the
largest size do not fit into its `shared_buffers`.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx
import redis
from harness.stack import Stack

from bench import machine, requests, table
from bench.load import Order, own
from bench.plan import CONNECTIONS
from bench.report import RESULTS
from bench.requests import HOST
from bench.world import PREFIX, SECRET, fill_redis, open_stores
from shortctl.devparts import command
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey

SIZES = "1000,1000000,10000000"
REBUILT = 1_000_000
"""Links up to which Redis is filled and rebuilt as well."""

CACHED = table.GENERATED
LOOKUP_MAX = 1.2
"""A look-up in the largest table may cost so many times one in the smallest."""


@dataclass
class Scale:
    """What was found at one size: seconds, and bytes a link."""

    costs: table.Costs
    fill_s: float
    cold_start_s: float
    redis_bytes: float | None = None
    rebuild_s: float | None = None
    rebuild_again_s: float | None = None


def main() -> int:
    """Measure each size in one growing table."""
    sizes = sorted(int(size) for size in os.environ.get("SCALE", SIZES).split(","))
    conditions = machine.conditions("make scale SCALE=" + ",".join(map(str, sizes)))
    found: list[Scale] = []
    local = None
    with tempfile.TemporaryDirectory(prefix="shortlinks-scale-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_stores(folder) as (postgres, valkey):
            domain = asyncio.run(table.add_domain(postgres.url))
            for since, size in zip([0, *sizes], sizes, strict=False):
                began = time.monotonic()
                asyncio.run(table.fill(postgres.url, domain, since, size))
                took = round(time.monotonic() - began, 1)
                one = Scale(
                    asyncio.run(table.costs(postgres.url, domain, size)),
                    took,
                    _cold_start(folder, postgres, valkey),
                )
                if size <= REBUILT:
                    _redis(postgres, valkey, one)
                if local is None and size >= CACHED:
                    local = _local_bytes(folder, postgres, valkey)
                found.append(one)
                print(json.dumps(asdict(one), indent=1), flush=True)
    ratio = found[-1].costs.lookup_us / found[0].costs.lookup_us
    data = {
        "conditions": conditions,
        "local_cache_bytes": local,
        "sizes": [asdict(one) for one in found],
        "lookup_ratio": ratio,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(data, indent=1) + "\n")
    print(f"look-up at {sizes[-1]:,} / at {sizes[0]:,}: {ratio:.2f} (at most {LOOKUP_MAX})")
    print(f"local cache: {local} bytes a link, of the process's memory")
    return 0


def _redis(postgres: EmbeddedPostgres, valkey: EmbeddedValkey, one: Scale) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
        before = client.info("memory")["used_memory"]
        one.rebuild_s = _rebuild(postgres.url, valkey.url)
        used = client.info("memory")["used_memory"] - before
    one.redis_bytes = round(used / one.costs.links, 1)
    one.rebuild_again_s = _rebuild(postgres.url, valkey.url)


def _rebuild(postgres_url: str, redis_url: str) -> float:
    """Return the seconds of `shortctl cache rebuild` as fast as it can."""
    environment = {
        **os.environ,
        "SHORTLINKS_POSTGRES_URL": postgres_url,
        "SHORTLINKS_REDIS_URL": redis_url,
        "SHORTLINKS_REDIS_PREFIX": PREFIX,
    }
    began = time.monotonic()
    subprocess.run(
        command("shortctl", "cache", "rebuild", "--rate", "1000000000"),
        env=environment,
        check=True,
        capture_output=True,
    )
    return round(time.monotonic() - began, 2)


def _cold_start(folder: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> float:
    """Return the seconds from the start of a process to its first correct redirect."""
    code, target = asyncio.run(table.any_link(postgres.url))
    times = []
    for _ in range(3):
        with _stack(folder, postgres, valkey) as stack:
            began = time.monotonic()
            part = stack.redirector()
            answer = httpx.get(f"{part.url}/{code}", headers={"host": HOST}, trust_env=False)
            times.append(time.monotonic() - began)
        if answer.headers.get("location") != target:
            raise RuntimeError(f"/{code} gives {answer.status_code}")
    return round(median(times), 2)


def _local_bytes(folder: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> float:
    """Return how much a redirector grows for each link that its local cache takes."""
    codes = asyncio.run(table.some_codes(postgres.url, CACHED))
    asyncio.run(fill_redis(postgres.url, valkey.url))
    warm = requests.gets(folder / "warm.requests", [f"/{code}" for code in codes[:1000]])
    every = requests.gets(folder / "every.requests", [f"/{code}" for code in codes])
    with _stack(folder, postgres, valkey) as stack:
        part = stack.redirector(L1_MAX_ENTRIES=str(CACHED), L1_MAX_BYTES=str(2**30))
        port = int(part.url.rpartition(":")[2])

        def ask(stream: requests.Stream, seconds: float, offset: int = 0) -> tuple[float, float]:
            own(Order(port, stream, CONNECTIONS, seconds, 0, offset))
            return (
                machine.rss_mib(part.child.pid) * 2**20,
                part.metric("shortlinks_local_cache_entries"),
            )

        before, few = ask(warm, 2)
        after, many = before, few
        while many < CACHED * 0.99:
            # From where the cache is filled on, as all come in the order of the file.
            after, many = ask(every, 3, int(many))
    return round((after - before) / (many - few), 1)


def _stack(folder: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Stack:
    settings = {"CODE_SECRET": SECRET, "REDIS_PREFIX": PREFIX, "DEFAULT_DOMAIN": HOST}
    return Stack(folder, postgres.url, valkey.url, settings=settings)


if __name__ == "__main__":
    sys.exit(main())
