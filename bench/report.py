"""Ratios of what was measured in the same round, and the tables and files of a result."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.creates import Created
from bench.rounds import Measured

CHANGE_MIN = 0.97
"""A change may cost a redirect 3% of its responses per CPU second."""

REDIRECT_TARGETS = (
    ("local hit", "no-op ASGI", 0.90),
    ("local hit", "nginx", 0.45),
    ("Redis hit", "local hit", 0.45),
    ("unknown code", "local hit", 0.90),
)
CREATE_TARGETS = (
    ("create, 16 connections", "pgbench insert, 16 connections", 0.30),
    ("create, 64 connections", "pgbench insert, 64 connections", 0.30),
    ("batches of 1,000", "COPY", 0.35),
    ("import of a CSV", "COPY", 0.50),
)
P99_TARGETS_MS = (("local hit", 2.0), ("Redis hit", 6.0), ("nginx", None))
RSS_TARGET_MIB = 150.0


@dataclass(frozen=True)
class Ratio:
    """A value per round, and the target for its median, if there is one."""

    name: str
    values: Sequence[float]
    target: float | None = None
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target."""
        if self.target is None:
            return None
        value = median(self.values)
        return value >= self.target if self.at_least else value <= self.target


def ratio(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    target: float | None = None,
    *,
    at_least: bool = True,
) -> Ratio:
    """Divide round by round: other load that slowed one side of a round slowed the other, too."""
    return Ratio(name, [a / b for a, b in zip(ours, theirs, strict=True)], target, at_least)


def of_redirects(found: Sequence[Measured]) -> list[Ratio]:
    """Return the ratios of all measured cases, and the values that have a target."""
    by_name = {each.name: each for each in found}
    ratios = [
        ratio(f"{ours} / {theirs}, per CPU second",
              by_name[ours].per_cpu_s, by_name[theirs].per_cpu_s, target)
        for ours, theirs, target in REDIRECT_TARGETS
        if ours in by_name and theirs in by_name
    ]  # fmt: skip
    for name, most_ms in P99_TARGETS_MS:
        if name in by_name:
            p99_ms = [us / 1000 for us in by_name[name].us["p99"]]
            title = f"p99 of {name} at 60% load"
            ratios.append(Ratio(title, p99_ms, most_ms, at_least=False, unit="ms"))
    if "Zipf mix" in by_name:
        values = by_name["Zipf mix"].rss_mib
        ratios.append(Ratio("RSS, Zipf mix", values, RSS_TARGET_MIB, at_least=False, unit="MiB"))
    return ratios


def of_creates(found: Sequence[Created]) -> list[Ratio]:
    """Return the ratios of creates."""
    rates = {each.name: each.rates for each in found}
    return [
        ratio(f"{ours} / {theirs}", rates[ours], rates[theirs], target)
        for ours, theirs, target in CREATE_TARGETS
        if ours in rates
    ]


def before_and_after(found: Sequence[Measured]) -> list[Ratio]:
    """Return the ratios of each case after a change to the same case before the change."""
    by_case = {(each.name, each.label): each for each in found}
    ratios: list[Ratio] = []
    for name in dict.fromkeys(each.name for each in found):
        after, before = by_case[name, "after"], by_case[name, "before"]
        title = f"{name}: after / before"
        ratios += [
            ratio(f"{title}, per CPU second", after.per_cpu_s, before.per_cpu_s, CHANGE_MIN),
            ratio(title, after.rates, before.rates),
            ratio(f"{title}, p99", after.us["p99"], before.us["p99"]),
        ]
    return ratios


def redirect_table(found: Sequence[Measured]) -> str:
    """Return a row per server: medians of throughput, latency at 60% load, and memory."""
    head = ("case", "server", "per s", "±", "per CPU s", "p50 ms", "p99 ms", "RSS MiB",
            "load generator's CPU", "answered by")  # fmt: skip
    rows = [
        (
            each.name, each.label, f"{median(each.rates):,.0f}", _spread(each.rates),
            f"{median(each.per_cpu_s):,.0f}", _ms(each.us, "p50"), _ms(each.us, "p99"),
            f"{max(each.rss_mib):,.0f}", f"{max(each.client_cpu):.0%}", _shares(each.lookups),
        )
        for each in found
    ]  # fmt: skip
    return table(head, rows)


def create_table(found: Sequence[Created]) -> str:
    """Return a row per way to create links."""
    head = ("way", "links per s", "±", "p50 ms", "p99 ms", "delivered after s (max)")
    rows = [
        (
            each.name, f"{median(each.rates):,.0f}", _spread(each.rates), _ms(each.us, "p50"),
            _ms(each.us, "p99"), f"{max(each.delivered_s):.1f}",
        )
        for each in found
    ]  # fmt: skip
    return table(head, rows)


def ratio_table(ratios: Sequence[Ratio]) -> str:
    """Return a row per ratio, with its target."""
    rows = []
    for each in ratios:
        sign = "≥" if each.at_least else "≤"
        target = "" if each.target is None else f"{sign} {each.target:g} {each.unit}".rstrip()
        values = (median(each.values), min(each.values), max(each.values))
        met = {True: "yes", False: "no", None: ""}[each.met]
        rows.append((each.name, *(f"{value:.2f}" for value in values), target, met))
    return table(("what", "median", "min", "max", "target", "met"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that is also readable in a terminal."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def print_result(
    tables: Mapping[str, str], conditions: Mapping[str, str], name: str = "", data: Any = None
) -> None:
    """Print a result as Markdown, and write `data` to `name`.json in the folder RESULTS."""
    for title, text in tables.items():
        print(f"## {title}\n\n{text}\n")
    print("## Conditions\n")
    for key, value in conditions.items():
        print(f"- {key}: {value}")
    if name:
        folder = Path(os.environ.get("RESULTS") or Path(__file__).with_name("results"))
        folder.mkdir(exist_ok=True)
        encoded = msgspec.json.encode({"conditions": conditions} | data)
        (folder / f"{name}.json").write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def _shares(lookups: Mapping[str, int]) -> str:
    total = sum(lookups.values())
    shares = {name: count / total for name, count in lookups.items() if count / total > 0.0005}
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _ms(us: Mapping[str, Sequence[float]], name: str) -> str:
    return f"{median(us[name]) / 1000:.2f}" if name in us else ""


def _spread(values: Sequence[float]) -> str:
    return f"{(max(values) - min(values)) / 2:,.0f}"
