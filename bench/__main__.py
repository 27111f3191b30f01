"""`make bench`: redirects and creates, compared with what the same machine can do at best.

LINKS, ROUNDS and SECONDS set the size of the run. CASES selects cases, separated by commas: names of the
first column of the result, or `creates`.
"""

import sys

from bench import machine, report
from bench.baselines import open_baselines
from bench.cases import Case, redirect_cases, selected, start
from bench.creates import Created, Creates
from bench.deployment import Deployment, deploy, generated_codes, open_servers, shuffled
from bench.load import LoadError
from bench.rounds import Measured, Plan, measure
from shortctl.embedded import stop_all


def main() -> int:
    """Measure and print; returns the exit code."""
    plan = Plan.read(links=200_000, rounds=5, seconds=2)
    conditions = machine.conditions(f"make bench {plan}")
    redirects: list[Measured] = []
    creates: list[Created] = []
    with open_servers() as servers, deploy(servers, "bench", 0) as deployment:
        conditions |= servers.settings()
        codes = [*generated_codes(plan.links)]
        deployment.start(codes)
        cases = {case.name: case for case in redirect_cases(servers.folder, shuffled(codes))}
        wanted = selected(*cases, "creates")
        try:
            redirects = _redirects(
                deployment, [cases[name] for name in wanted if name in cases], plan
            )
            if "creates" in wanted:
                creates = Creates(deployment, plan).measure()
        except LoadError as error:
            conditions["incomplete"] = str(error)
    ratios = report.of_redirects(redirects) + report.of_creates(creates)
    tables = {
        "Redirects": report.redirect_table(redirects),
        "Creates": report.create_table(creates),
        "Targets": report.ratio_table(ratios),
    }
    data = {"redirects": redirects, "creates": creates, "ratios": ratios}
    report.print_result(tables, conditions, "bench", data)
    return 1 if "incomplete" in conditions else 0


def _redirects(deployment: Deployment, cases: list[Case], plan: Plan) -> list[Measured]:
    if not cases:
        return []
    servers = [start(case, deployment) for case in cases]
    try:
        with open_baselines(deployment.servers.folder, cases[0].stream) as baselines:
            return measure([*servers, *baselines], plan)
    finally:
        # Redirectors also read the change feed: they would use CPU time that creates need.
        stop_all([server.part.child for server in servers if server.part is not None])


if __name__ == "__main__":
    sys.exit(main())
