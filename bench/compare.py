"""`make compare BEFORE=…`: what a change costs a redirect, measured in one interleaved run.

BEFORE is another checkout whose `.venv` exists (`make .venv/.run` there). Its redirectors and those of
this checkout run over the same stores, and every round measures both in turn. ROUNDS sets the number
of rounds (20: about six minutes).
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import load, machine, report
from bench.measure import Measured, measure
from bench.plan import PLANS
from bench.ratios import before_and_after
from bench.redirects import BRIEF, Streams, redirector_cases
from bench.world import open_world
from shortctl.embedded import stop_all

PLAN = replace(PLANS["quick"], name="compare", seconds=1.0, warm_s=0.3, latency_s=1.0)


def main() -> int:
    """Measure and print; returns the exit code: 1 if a case became slower than the bound."""
    folder = os.environ.get("BEFORE", "")
    program = Path(folder).resolve() / ".venv" / "bin" / "shortlinks-redirector"
    rounds = int(os.environ.get("ROUNDS") or 20)
    if not folder or not program.is_file():
        say(f"BEFORE names no checkout with an environment: there is no {program}")
        return 2
    plan = replace(PLAN, rounds=rounds, latency_rounds=max(1, rounds // 2))
    conditions = machine.conditions(f"make compare ROUNDS={rounds}") | load.tools()
    programs = {"before": str(program), "after": "shortlinks-redirector"}
    with open_world(plan.links) as world:
        streams = Streams.write(world, plan)
        cases = redirector_cases(world, plan, streams, BRIEF, programs)
        try:
            found = measure(cases, plan, say)
        finally:
            stop_all([case.part.child for case in cases if case.part is not None])
    ratios = before_and_after(found)
    say("")
    print(text(conditions, found, report.ratio_table(ratios)))
    return 0 if all(each.met for each in ratios) else 1


def text(conditions: dict[str, str], found: Sequence[Measured], ratios: str) -> str:
    """Return the result as Markdown."""
    tables = [
        "# Before and after\n",
        report.redirect_table(found),
        "",
        ratios,
        "",
        "## Conditions\n",
    ]
    return "\n".join([*tables, *(f"- {name}: {value}" for name, value in conditions.items())])


def say(message: str) -> None:
    """Report progress on standard error."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
