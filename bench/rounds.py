"""Measures servers in interleaved rounds, so that other load on the machine disturbs all alike.

Every other round takes the servers in reverse order, so that none always runs before another.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.cases import Server
from bench.load import Load, LoadError, send
from bench.machine import cpu_seconds, rss_mib

LATENCY_LOAD = 0.6
"""Latency is measured at this share of the server's own median throughput."""

ATTEMPTS = 5


@dataclass(frozen=True)
class Plan:
    """The size of a run: the environment variables LINKS, ROUNDS and SECONDS (of each measurement)."""

    links: int
    rounds: int
    seconds: float

    @classmethod
    def read(cls, *, links: int, rounds: int, seconds: float) -> "Plan":
        """Return the plan; the arguments are its defaults."""
        return cls(
            int(os.environ.get("LINKS") or links),
            int(os.environ.get("ROUNDS") or rounds),
            float(os.environ.get("SECONDS") or seconds),
        )

    @property
    def warm_s(self) -> float:
        """Seconds of load before each measurement."""
        return min(1.0, self.seconds / 3)

    def __str__(self) -> str:
        return f"LINKS={self.links} ROUNDS={self.rounds} SECONDS={self.seconds:g}"


@dataclass
class Measured:
    """The results of one server; each list has a value per round.

    `per_cpu_s` is the number of responses per second of the server's CPU time. Other load on the
    machine disturbs it least. `us` has the percentiles of latency in µs.
    """

    name: str
    label: str
    rates: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    us: dict[str, list[float]] = field(default_factory=dict)
    lookups: Counter[str] = field(default_factory=Counter)


def measure(servers: Sequence[Server], plan: Plan) -> list[Measured]:
    """Measure throughput in all rounds, then latency. Raises LoadError on unexpected responses."""
    found = [Measured(server.case.name, server.label) for server in servers]
    pairs = [*zip(servers, found, strict=True)]
    for server in servers:
        server.prepare()
        server.check()
    for turn, server, into in _turns(pairs, plan):
        _throughput(server, into, plan, turn)
        progress(
            f"throughput {turn + 1}/{plan.rounds}  {server.name:24} {into.rates[-1]:,.0f} per s"
        )
    for turn, server, into in _turns(pairs, plan):
        _latency(server, into, plan, turn)
        p99_ms = into.us["p99"][-1] / 1000
        progress(f"latency {turn + 1}/{plan.rounds}  {server.name:24} p99 {p99_ms:,.2f} ms")
    return found


def _turns(
    pairs: Sequence[tuple[Server, Measured]], plan: Plan
) -> Iterator[tuple[int, Server, Measured]]:
    for turn in range(plan.rounds):
        for server, into in pairs if turn % 2 == 0 else reversed(pairs):
            yield turn, server, into


def _throughput(server: Server, into: Measured, plan: Plan, turn: int) -> None:
    server.prepare()
    lookups = server.lookups()
    load, cpu_s = _send(server, plan, turn)
    into.rates.append(load.rate)
    into.per_cpu_s.append(load.total / max(cpu_s, 0.01))
    into.client_cpu.append(load.client_cpu)
    into.rss_mib.append(rss_mib(server.pid))
    into.lookups += server.lookups() - lookups


def _latency(server: Server, into: Measured, plan: Plan, turn: int) -> None:
    server.prepare()
    load, _ = _send(server, plan, turn, LATENCY_LOAD * median(into.rates))
    for name, value in load.us.items():
        into.us.setdefault(name, []).append(value)


def _send(server: Server, plan: Plan, turn: int, rate: float = 0) -> tuple[Load, float]:
    """Return the load, and the CPU time that the server used for it."""
    stream = server.case.stream
    # Each round starts at another offset, so that no round finds the links of the round before.
    offset = stream.count * turn // plan.rounds
    # On a busy machine, a server may get no CPU time during a whole short measurement.
    for _ in range(ATTEMPTS):
        cpu_s = cpu_seconds(server.pid)
        load = send(server.port, stream, plan.seconds, warm_s=plan.warm_s, rate=rate, offset=offset)
        cpu_s = cpu_seconds(server.pid) - cpu_s
        if load.statuses:
            break
        progress(f"{server.name}: no response, trying again")
    if set(load.statuses) != {str(server.case.status)}:
        raise LoadError(f"{server.name}: responses {load.statuses}")
    return load, cpu_s


def progress(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)
