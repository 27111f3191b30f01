"""What grows with the number of links: look-ups, creates, indexes, bytes, rebuild, cold start.

`SCALE=1000,1000000,10000000` names the sizes; each has a database of its own on one server, filled
by PostgreSQL itself, with codes about as long and as scattered as ours. They are measured in turns:
look-ups use the redirector's own statement for one key, creates a plain insert; one client sends
one after the other, so that they show what a size costs and not how well clients share a server.
PostgreSQL runs on its defaults: the links of the largest size do not fit into its `shared_buffers`.
`SCALE_FOLDER` keeps the databases for another run; `SCALE_ONLY=fill` ends when they are filled.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
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
from bench.world import PREFIX, SECRET, fill_redis, open_stores, server_settings
from shortctl.dev.services import command
from shortctl.embedded import EmbeddedValkey

SIZES = "1000,1000000,10000000"
ROUNDS = 5
REBUILT = 1_000_000
"""Links up to which Redis is filled and rebuilt as well."""

CACHED = table.GENERATED
LOOKUP_MAX = 1.2
"""A look-up in the largest table may cost so many times one in the smallest."""


@dataclass
class Scale:
    """What was found at one size: µs a statement (median, p99), seconds, and bytes a link.

    `lookup_us` and `create_us` have a median a round; `lookup_cpu_us` is PostgreSQL's own share.
    """

    links: int
    fill_s: float
    sizes: table.Sizes
    lookup_us: list[float] = field(default_factory=list)
    lookup_p99_us: list[float] = field(default_factory=list)
    lookup_cpu_us: list[float] = field(default_factory=list)
    create_us: list[float] = field(default_factory=list)
    create_p99_us: list[float] = field(default_factory=list)
    cold_start_s: float | None = None
    redis_bytes: float | None = None
    rebuild_s: float | None = None
    rebuild_again_s: float | None = None


def main() -> int:
    """Fill a database for each size, then measure them in turns."""
    numbers = sorted(int(size) for size in os.environ.get("SCALE", SIZES).split(","))
    conditions = machine.conditions("make scale SCALE=" + ",".join(map(str, numbers)))
    with _folder() as folder, open_stores(folder) as (postgres, valkey):
        urls = {size: asyncio.run(table.open_database(postgres.url, size)) for size in numbers}
        found = []
        for size, url in urls.items():
            fill_s = asyncio.run(table.fill(url, size))
            found.append(Scale(size, fill_s, asyncio.run(table.sizes(url))))
            say(f"{size:,} links filled in {fill_s:.0f} s")
        if os.environ.get("SCALE_ONLY") == "fill":
            return 0
        conditions |= asyncio.run(server_settings(postgres.url))
        for turn in range(ROUNDS):
            for one in found:
                _statements(urls[one.links], one, turn)
        local = None
        for one in found:
            url = urls[one.links]
            one.cold_start_s = _cold_start(folder, url, valkey)
            if one.links <= REBUILT:
                _redis(url, valkey, one)
            if local is None and one.links >= CACHED:
                local = _local_bytes(folder, url, valkey)
            say(json.dumps(asdict(one), indent=1))
    write_scale(conditions, local, found)
    return 0


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    kept = os.environ.get("SCALE_FOLDER")
    if kept:
        Path(kept).mkdir(mode=0o711, exist_ok=True)
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="shortlinks-scale-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def _statements(url: str, one: Scale, turn: int) -> None:
    lookups, cpu_us = asyncio.run(table.lookups(url, one.links, turn))
    creates = asyncio.run(table.creates(url, one.links, turn))
    one.lookup_cpu_us.append(round(cpu_us, 1))
    for times, medians, tails in (
        (lookups, one.lookup_us, one.lookup_p99_us),
        (creates, one.create_us, one.create_p99_us),
    ):
        times.sort()
        medians.append(round(times[len(times) // 2], 1))
        tails.append(round(times[int(0.99 * len(times))], 1))
    say(f"{turn + 1}/{ROUNDS}  {one.links:>11,} links: look-up {one.lookup_us[-1]:.0f} µs "
        f"({one.lookup_cpu_us[-1]:.0f} of the server), "
        f"create {one.create_us[-1]:.0f} µs")  # fmt: skip


def write_scale(conditions: dict[str, str], local: float | None, found: list[Scale]) -> None:
    """Write scale.json and say whether a look-up costs what it may."""
    # Round by round, as what slowed one size slowed its neighbour, too.
    ratios = {
        name: [
            b / a for a, b in zip(getattr(found[0], name), getattr(found[-1], name), strict=True)
        ]
        for name in ("lookup_us", "lookup_cpu_us")
    }
    data = {
        "conditions": conditions,
        "local_cache_bytes": local,
        "sizes": [asdict(one) for one in found],
        "ratios": {
            name: {"median": median(each), "least": min(each), "most": max(each)}
            for name, each in ratios.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(data, indent=1) + "\n")
    for name, each in ratios.items():
        say(f"{name} at {found[-1].links:,} / at {found[0].links:,}: {median(each):.2f} "
            f"(at most {LOOKUP_MAX})")  # fmt: skip
    say(f"local cache: {local} bytes a link, of the process's memory")


def _redis(url: str, valkey: EmbeddedValkey, one: Scale) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
        before = client.info("memory")["used_memory"]
        one.rebuild_s = _rebuild(url, valkey.url)
        used = client.info("memory")["used_memory"] - before
    one.redis_bytes = round(used / one.links, 1)
    one.rebuild_again_s = _rebuild(url, valkey.url)


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


def _cold_start(folder: Path, url: str, valkey: EmbeddedValkey) -> float:
    """Return the seconds from the start of a process to its first correct redirect."""
    code, target = asyncio.run(table.any_link(url))
    times = []
    for _ in range(3):
        with _stack(folder, url, valkey) as stack:
            began = time.monotonic()
            part = stack.redirector()
            answer = httpx.get(f"{part.url}/{code}", headers={"host": HOST}, trust_env=False)
            times.append(time.monotonic() - began)
        if answer.headers.get("location") != target:
            raise RuntimeError(f"/{code} gives {answer.status_code}")
    return round(median(times), 2)


def _local_bytes(folder: Path, url: str, valkey: EmbeddedValkey) -> float:
    """Return how much a redirector grows for each link that its local cache takes."""
    codes = asyncio.run(table.some_codes(url, CACHED))
    asyncio.run(fill_redis(url, valkey.url))
    warm = requests.gets(folder / "warm.requests", [f"/{code}" for code in codes[:1000]])
    every = requests.gets(folder / "every.requests", [f"/{code}" for code in codes])
    with _stack(folder, url, valkey) as stack:
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


def _stack(folder: Path, url: str, valkey: EmbeddedValkey) -> Stack:
    settings = {"CODE_SECRET": SECRET, "REDIS_PREFIX": PREFIX, "DEFAULT_DOMAIN": HOST}
    return Stack(folder, url, valkey.url, settings=settings)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
