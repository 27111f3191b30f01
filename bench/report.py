"""Writes what was found: a table for the terminal and for Markdown, JSON, and a chart."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.chart import Bar, chart
from bench.creates import Created
from bench.measure import Measured
from bench.ratios import Ratio

RESULTS = Path(__file__).parent / "results"
NOTES = """\
Closed loop with 64 keep-alive connections for throughput; open loop at 60% of it for latency,
counted from the time a request was due (coordinated omission corrected). Median over the rounds,
which are interleaved; `±` is half of max - min. «per CPU s»: answers for each second of the
server's processor time, which others on the machine disturb least. A client core near 100% means
that the client, not the server, was the limit. «Delivered
after»: the longest that Redis and the redirectors had to be told of the last links once all were
answered; PostgreSQL has them from the answer on. Creates: see the text of
`bench/creates.py`; «start» is an import of one row.
"""


@dataclass(frozen=True)
class Result:
    """Everything about one run."""

    conditions: dict[str, str]
    redirects: Sequence[Measured]
    creates: Sequence[Created]
    ratios: Sequence[Ratio]


def write(result: Result) -> str:
    """Write latest.{json,md,svg}; returns the Markdown, which reads well on a terminal."""
    RESULTS.mkdir(exist_ok=True)
    data = asdict(result) | {"ratios": [asdict(each) | {"met": each.met} for each in result.ratios]}
    (RESULTS / "latest.json").write_text(json.dumps(data, indent=1) + "\n")
    text = markdown(result)
    (RESULTS / "latest.md").write_text(text)
    (RESULTS / "latest.svg").write_text(_svg(result))
    return text


def markdown(result: Result) -> str:
    """Return the tables."""
    parts = ["# Benchmark\n"]
    if result.redirects:
        parts += ["## Redirects\n", redirect_table(result.redirects)]
        parts += ["", "Where the answers came from:\n", *_layers(result.redirects), ""]
    if result.creates:
        parts += ["## Creates\n", _table(_CREATE_HEAD, map(_create_row, result.creates)), ""]
    if result.ratios:
        parts += ["## Targets\n", ratio_table(result.ratios), ""]
    parts += [NOTES, "## Conditions\n"]
    parts += [f"- {name}: {value}" for name, value in result.conditions.items()]
    return "\n".join(parts) + "\n"


def redirect_table(found: Sequence[Measured]) -> str:
    """Return a row for each case of the redirectors and the baselines."""
    return _table(_REDIRECT_HEAD, map(_redirect_row, found))


def ratio_table(ratios: Sequence[Ratio]) -> str:
    """Return a row for each ratio, with its target."""
    return _table(_RATIO_HEAD, map(_ratio_row, ratios))


_REDIRECT_HEAD = ("case", "server", "per s", "±", "per CPU s", "p50 ms", "p99 ms", "p99.9 ms",
                  "CPU", "RSS MiB", "client")  # fmt: skip
_CREATE_HEAD = ("way", "links per s", "±", "p50 ms", "p99 ms", "delivered after s",
                "start ms")  # fmt: skip
_RATIO_HEAD = ("what", "median", "least", "most", "target", "met")


def _redirect_row(found: Measured) -> list[str]:
    return [
        found.name, "" if found.name.endswith(found.server) else found.server,
        f"{median(found.rates):,.0f}", _spread(found.rates), f"{median(found.per_cpu_s):,.0f}",
        *(_ms(found.us.get(name)) for name in ("p50", "p99", "p99.9")),
        f"{median(found.cpu):.0%}", f"{max(found.rss_mib):,.0f}",
        f"{max(found.client_cpu):.0%}",
    ]  # fmt: skip


def _create_row(found: Created) -> list[str]:
    latencies = (_ms(found.us.get(name)) for name in ("p50", "p99"))
    delivered = f"{max(found.delivered_s):.1f}" if found.delivered_s else ""
    start = f"{median(found.start_s) * 1000:,.0f}" if found.start_s else ""
    rate = f"{median(found.rates):,.0f}"
    return [found.name, rate, _spread(found.rates), *latencies, delivered, start]


def _ratio_row(ratio: Ratio) -> list[str]:
    sign = "≥" if ratio.at_least else "≤"
    numbers = (f"{value:.2f}" for value in (ratio.value, ratio.least, ratio.most))
    bound = "" if ratio.bound is None else f"{sign} {ratio.bound:g} {ratio.unit}".rstrip()
    return [ratio.name, *numbers, bound, {True: "yes", False: "no", None: ""}[ratio.met]]


def _layers(found: Sequence[Measured]) -> list[str]:
    lines = []
    for each in found:
        total = sum(each.layers.values())
        if total:
            shares = [
                f"{name} {n / total:.1%}" for name, n in each.layers.items() if n / total > 0.0005
            ]
            lines.append(f"- {each.name} ({each.server}): {', '.join(shares)}")
    return lines


def _ms(values: Sequence[float] | None) -> str:
    return f"{median(values) / 1000:.2f}" if values else ""


def _spread(values: Sequence[float]) -> str:
    return f"{(max(values) - min(values)) / 2:,.0f}"


def _table(head: Sequence[str], rows: "map[list[str]]") -> str:
    lines = [list(head), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    numeric = [at > 0 and head[at] not in {"server", "target", "met"} for at in range(len(head))]

    def put(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        return "| " + " | ".join(cells) + " |"

    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    return "\n".join([put(lines[0]), put(rule), *map(put, lines[1:])])


def _svg(result: Result) -> str:
    def bar(name: str, rates: Sequence[float], *, ours: bool) -> Bar:
        return Bar(name, median(rates), min(rates), max(rates), ours=ours)

    groups = {
        "Redirects a second, one core": [
            bar(each.name if each.name.endswith(each.server) else f"{each.name}, {each.server}",
                each.rates, ours=bool(each.layers))
            for each in result.redirects
        ],
        "Creates: links a second": [
            bar(each.name, each.rates, ours=each.name != "COPY" and "pgbench" not in each.name)
            for each in result.creates
        ],
    }  # fmt: skip
    shown = ("date", "commit", "processor", "cores")
    foot = ", ".join(f"{result.conditions[name]}" for name in shown if name in result.conditions)
    return chart({name: bars for name, bars in groups.items() if bars}, foot + " cores")
