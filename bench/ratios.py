"""What counts in a result: ratios of things measured in the same round, and their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.creates import Created
from bench.measure import Measured

NOOP_MIN = 0.90
NGINX_MIN = 0.45
REDIS_MIN = 0.45
UNKNOWN_MIN = 0.90
LOCAL_P99_MS = 2.0
REDIS_P99_MS = 6.0
RSS_MIB = 150.0
CHANGE_MIN = 0.97
"""A change may cost a redirect 3% of its throughput."""


@dataclass(frozen=True)
class Ratio:
    """A value with its range over the rounds, and the bound that it should keep, if any."""

    name: str
    value: float
    least: float
    most: float
    bound: float | None
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


SAME_SERVER = {"direct": "asgi"}
"""`direct` runs on uvicorn, so the no-op application on its server is the one for `asgi`. The
no-op direct is a bare protocol, no server: what remains of it is told, and is no target."""


def of_redirects(found: Sequence[Measured], cached_links: int) -> list[Ratio]:
    """Return every ratio that the measured cases allow.

    Each is taken twice: of throughput, and of answers a second of the server's processor time.
    """
    by_case = {(each.name, each.server): each for each in found}
    ratios: list[Ratio] = []
    for server in dict.fromkeys(each.server for each in found if each.name == "local hit"):
        local = by_case["local hit", server]
        noop = f"noop {SAME_SERVER.get(server, server)}"
        bare = f"noop {server}"
        pairs = [
            ("local hit", noop, by_case.get((noop, noop)), NOOP_MIN),
            ("local hit", bare, by_case.get((bare, bare)) if bare != noop else None, None),
            ("local hit", "nginx", by_case.get(("nginx", "nginx")), NGINX_MIN),
            ("redis hit", "local hit", local, REDIS_MIN),
            ("unknown code", "local hit", local, UNKNOWN_MIN),
        ]
        for name, other, reference, bound in pairs:
            case = by_case.get((name, server))
            if case is None or reference is None:
                continue
            title = f"{server}: {name} / {other}"
            ratios.append(_ratio(title, case.rates, reference.rates, bound))
            ratios.append(
                _ratio(f"{title}, for each CPU second", case.per_cpu_s, reference.per_cpu_s, bound)
            )
        for name, most in (("local hit", LOCAL_P99_MS), ("redis hit", REDIS_P99_MS)):
            ratios += _p99(f"{server}: ", by_case.get((name, server)), most)
        zipf = by_case.get(("zipf mix", server))
        if zipf is not None:
            title = f"{server}: RSS with up to {cached_links:,} cached links"
            ratios.append(_value(title, zipf.rss_mib, RSS_MIB, "MiB"))
    # What the machine itself can do: nobody's p99 is better than that of these.
    for baseline in (each for each in found if each.name == each.server):
        ratios += _p99("", baseline, None)
    return ratios


def before_and_after(found: Sequence[Measured]) -> list[Ratio]:
    """Return the ratios of each case after a change to the same case before it.

    The bound holds for answers per CPU second, which other load on the machine disturbs least.
    """
    by_case = {(each.name, each.server): each for each in found}
    ratios: list[Ratio] = []
    for name in dict.fromkeys(each.name for each in found):
        after, before = by_case[name, "after"], by_case[name, "before"]
        title = f"{name}: after / before"
        ratios.append(
            _ratio(f"{title}, per CPU second", after.per_cpu_s, before.per_cpu_s, CHANGE_MIN)
        )
        ratios.append(_ratio(title, after.rates, before.rates, None))
        if after.us and before.us:
            ratios.append(_ratio(f"{title}, p99", after.us["p99"], before.us["p99"], None))
    return ratios


CREATE_PAIRS: Mapping[str, tuple[str, float]] = {
    "create, 16 connections": ("pgbench insert, 16 connections", 0.30),
    "create, 64 connections": ("pgbench insert, 64 connections", 0.30),
    "batches of 1,000": ("COPY", 0.35),
    "import of a CSV": ("COPY", 0.50),
}


def of_creates(found: Sequence[Created]) -> list[Ratio]:
    """Return the ratios of creates."""
    rates = {each.name: each.rates for each in found}
    return [
        _ratio(f"{name} / {other}", rates[name], rates[other], bound)
        for name, (other, bound) in CREATE_PAIRS.items()
        if name in rates
    ]


def _ratio(name: str, ours: Sequence[float], theirs: Sequence[float], bound: float | None) -> Ratio:
    # Round by round: what slowed one of them in a round slowed its neighbour, too.
    values = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(name, median(values), min(values), max(values), bound)


def _p99(prefix: str, case: Measured | None, most: float | None) -> list[Ratio]:
    if case is None or not case.us:
        return []
    p99 = [value / 1000 for value in case.us["p99"]]
    return [_value(f"{prefix}p99 of {case.name} at 60% load", p99, most, "ms")]


def _value(name: str, values: Sequence[float], most: float | None, unit: str) -> Ratio:
    return Ratio(name, median(values), min(values), max(values), most, at_least=False, unit=unit)
