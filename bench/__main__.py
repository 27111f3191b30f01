"""`make bench`: measure redirects and creates, next to what the same machine can do at best.

`BENCH=quick` takes about two minutes, `BENCH=full` about an hour. `BENCH_ONLY=redirects` or
`creates` leaves out the rest; `BENCH_WITHOUT=wrk,cc` tries the fallbacks.
"""

import os
import sys
import time

from bench import load, machine, report
from bench.baselines import open_baselines
from bench.creates import Created, Creates
from bench.measure import Measured, measure
from bench.plan import PLANS, Plan
from bench.ratios import of_creates, of_redirects
from bench.redirects import Streams, baseline_cases, server_cases, servers
from bench.world import World, open_world
from shortctl.embedded import stop_all

PARTS = ("redirects", "creates")


def main() -> int:
    """Run the plan that BENCH names; returns the exit code."""
    name = os.environ.get("BENCH") or "default"
    only = os.environ.get("BENCH_ONLY") or ",".join(PARTS)
    parts = only.split(",")
    if name not in PLANS or not set(parts) <= set(PARTS):
        say(f"BENCH is one of {', '.join(PLANS)}; BENCH_ONLY of {', '.join(PARTS)}")
        return 2
    plan = PLANS[name]
    began = time.monotonic()
    conditions = machine.conditions(f"make bench BENCH={name} BENCH_ONLY={only}")
    conditions |= load.tools()
    say(f"{plan.links:,} links; {conditions['pinning']}; busy: {conditions['busy before the run']}")
    redirects: list[Measured] = []
    creates: list[Created] = []
    with open_world(plan.links) as world:
        conditions |= {f"postgres {key}": value for key, value in world.postgres_settings.items()}
        conditions["links"] = f"{plan.links:,}"
        try:
            if "redirects" in parts:
                redirects = _redirects(world, plan)
            if "creates" in parts:
                creates = Creates(world, plan).measure(say)
        except load.LoadError as error:
            conditions["cut off"] = str(error)
    conditions["took"] = f"{time.monotonic() - began:.0f} s"
    ratios = of_redirects(redirects, plan.local_share) + of_creates(creates)
    say("")
    print(report.write(report.Result(conditions, redirects, creates, ratios)))
    return 1 if "cut off" in conditions else 0


def _redirects(world: World, plan: Plan) -> list[Measured]:
    streams = Streams.write(world, plan)
    with open_baselines(world.folder, servers()) as baselines:
        cases = server_cases(world, plan, streams)
        try:
            return measure([*cases, *baseline_cases(baselines, streams.local)], plan, say)
        finally:
            # Each follows the change feed: a dozen of them would take the cores from the creates.
            stop_all([case.part.child for case in cases if case.part is not None])


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
