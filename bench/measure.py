"""Rounds over all cases, interleaved: A B C A B C, so that a noisy minute hits all alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.load import LoadError, Order, closed, own
from bench.machine import Use, watch
from bench.plan import CONNECTIONS, LOAD, Plan
from bench.redirects import Case

WARM_STEP_S = 0.3


@dataclass
class Measured:
    """What the rounds found of one case: a value a round in each list.

    `per_cpu_s` are answers for each second of the server's processor time: they hold on a machine
    that others use, too. `us` are the percentiles of latency in µs at LOAD of the case's own median throughput;
    `layers` says which part of the answers came from where.
    """

    name: str
    server: str
    rates: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    us: dict[str, list[float]] = field(default_factory=dict)
    latency_rate: float = 0.0
    latency_client_cpu: list[float] = field(default_factory=list)
    unanswered: int = 0
    layers: dict[str, float] = field(default_factory=dict)


def measure(cases: Sequence[Case], plan: Plan, say: Callable[[str], None]) -> list[Measured]:
    """Measure throughput in every round, then latency; raises LoadError on a wrong answer."""
    found = [Measured(case.name, case.server) for case in cases]
    for turn in range(plan.rounds):
        for case, into in zip(cases, found, strict=True):
            _throughput(case, into, plan, turn)
            say(f"round {turn + 1}/{plan.rounds}  {case.title:28} {into.rates[-1]:>9,.0f}/s")
    for turn in range(plan.latency_rounds):
        for case, into in zip(cases, found, strict=True):
            _latency(case, into, plan, turn)
            say(
                f"latency {turn + 1}/{plan.latency_rounds}  {case.title:26} "
                f"p99 {into.us['p99'][-1] / 1000:8.2f} ms at {into.latency_rate:,.0f}/s"
            )
    return found


def _throughput(case: Case, into: Measured, plan: Plan, turn: int) -> None:
    if turn == 0:
        case.check()
    _prepare(case)
    before = case.layers()
    with watch(case.pid) as use:
        load = closed(_order(case, plan.seconds, plan.warm_s, turn, plan.rounds))
    into.rates.append(load.rate)
    into.per_cpu_s.append(load.total / max(use.cpu_s, 0.01))
    into.client_cpu.append(load.client_cpu)
    _add(into, use, before, case.layers())


def _latency(case: Case, into: Measured, plan: Plan, turn: int) -> None:
    _prepare(case)
    ordered = sorted(into.rates)
    into.latency_rate = LOAD * ordered[len(ordered) // 2]
    load = own(
        _order(case, plan.latency_s, plan.warm_s, turn, plan.latency_rounds), into.latency_rate
    )
    strange = set(load.statuses) - {str(case.expected)}
    if strange:
        raise LoadError(f"{case.title}: answers {load.statuses}, expected {case.expected}")
    for name, value in load.us.items():
        into.us.setdefault(name, []).append(value)
    into.latency_client_cpu.append(load.client_cpu)
    into.unanswered += load.unanswered


def _order(case: Case, seconds: float, warm_s: float, turn: int, turns: int) -> Order:
    # Each round goes on elsewhere in the stream, so that none meets what the last one left.
    offset = case.stream.count * turn // turns
    return Order(case.port, case.stream, CONNECTIONS, seconds, warm_s, offset)


def _prepare(case: Case) -> None:
    if case.prepare is not None:
        case.prepare()
    if case.warm is None:
        return
    asked = 0
    while asked < case.warm.count:
        asked += own(Order(case.port, case.warm, CONNECTIONS, WARM_STEP_S, 0, asked)).total


def _add(into: Measured, use: Use, before: dict[str, float], after: dict[str, float]) -> None:
    into.cpu.append(use.cpu)
    into.rss_mib.append(use.rss_mib)
    for name, value in after.items():
        into.layers[name] = into.layers.get(name, 0.0) + value - before[name]
