"""`make compare BEFORE=…`: redirects before and after a change, measured in one interleaved run.

BEFORE is another checkout with an environment (`make .venv/.run` there). Its services and those of this
checkout run on the same servers, each on databases of their own. Every round measures each case on both
sides. LINKS, ROUNDS, SECONDS and CASES are as for `make bench`.
"""

import os
import sys
from pathlib import Path

from bench import machine, report
from bench.cases import redirect_cases, selected, start
from bench.deployment import deploy, generated_codes, open_servers, shuffled
from bench.rounds import Plan, measure

CASES = ("local hit", "Redis hit", "unknown code")


def main() -> int:
    """Measure and print; returns the exit code: 1 if a case became more than 3% slower."""
    before = Path(os.environ.get("BEFORE") or "none").resolve()
    if not (before / ".venv" / "bin" / "shortlinks-redirector").is_file():
        print(f"BEFORE={before} has no environment: run `make .venv/.run` in that checkout.")
        return 2
    plan = Plan.read(links=100_000, rounds=20, seconds=1)
    conditions = machine.conditions(f"make compare BEFORE=… {plan}")
    codes = [*generated_codes(plan.links)]
    with (
        open_servers() as servers,
        deploy(servers, "before", 0, before) as old,
        deploy(servers, "after", 1) as new,
    ):
        sides = {"before": old, "after": new}
        for side in sides.values():
            side.start(codes)
        wanted = selected(*CASES)
        cases = [
            each for each in redirect_cases(servers.folder, shuffled(codes)) if each.name in wanted
        ]
        running = [start(case, side, label) for case in cases for label, side in sides.items()]
        found = measure(running, plan)
    ratios = report.before_and_after(found)
    tables = {
        "Before and after": report.redirect_table(found),
        "Ratios": report.ratio_table(ratios),
    }
    report.print_result(tables, conditions)
    return 0 if all(each.met is not False for each in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
