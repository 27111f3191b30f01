"""`make soak-memory`: does a redirector's memory grow? MINUTES of mixed traffic on a full local cache.

Traffic at a fixed rate: Zipf over ten times as many links as the local cache holds, and a tenth unknown
codes. Meanwhile links are edited, and memory is read every second. Before the clock starts, three times
as many links as the cache holds are requested once, so that the cache, the versions of evicted links and
the hash tables of both have their final size.

Growth is the slope of the second half. It is fitted through the medians of BLOCKS equal parts, because
samples one second apart are not independent. Memory is «flat» only if the slope plus its error (95%,
Student's t) stays below GROWTH_MIB_PER_HOUR.
"""

import math
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean, linear_regression, median

import httpx

from bench import machine, report, traffic
from bench.deployment import Deployment, deploy, generated_codes, open_servers, shuffled
from bench.load import Load, LoadError, send, send_all
from bench.traffic import HOST

RATE = 5000.0
EDIT_EVERY_S = 0.02
LEAST_MINUTES = 5.0
"""A shorter run shows that the program works, but nothing about growth."""

GROWTH_MIB_PER_HOUR = 6.0
"""Counts as flat: it is less than the noise of the memory allocator over that time."""

BLOCKS = 12
T_95 = 2.228
"""Student's t for BLOCKS - 2 degrees of freedom, two-sided."""

Sample = tuple[float, float]
"""Seconds since the start, and MiB."""


@dataclass(frozen=True)
class Growth:
    """MiB per hour, with its error (95%)."""

    mib_per_hour: float
    error: float

    @property
    def verdict(self) -> str:
        """What the slope and its error show."""
        if self.mib_per_hour + self.error <= GROWTH_MIB_PER_HOUR:
            return "flat"
        grows = self.mib_per_hour - self.error > GROWTH_MIB_PER_HOUR
        return "growing" if grows else "not shown to be flat"


def main() -> int:
    """Measure and print; returns 1 if memory is not shown to be flat, or a request or edit failed."""
    minutes = float(os.environ.get("MINUTES") or 10)
    links = int(os.environ.get("LINKS") or 1_000_000)
    conditions = machine.conditions(f"make soak-memory MINUTES={minutes:g} LINKS={links}")
    codes = [*generated_codes(links)]
    with open_servers() as servers, deploy(servers, "soak", 0) as deployment:
        deployment.start(codes)
        samples, load, failed_edits = _soak(deployment, shuffled(codes), minutes * 60)
    verdict, slope, growth = "too short for a verdict", "", None
    if minutes >= LEAST_MINUTES:
        growth = growth_of([sample for sample in samples if sample[0] >= minutes * 30])
        verdict, slope = growth.verdict, f"{growth.mib_per_hour:+.1f} ± {growth.error:.1f}"
    failed = failed_edits or load.unanswered or set(load.statuses) - {"302", "404"}
    row = (
        f"{samples[0][1]:.1f}", f"{samples[-1][1]:.1f}", f"{max(mib for _, mib in samples):.1f}",
        slope, verdict,
        str(load.statuses), str(load.unanswered), str(failed_edits),
    )  # fmt: skip
    head = ("MiB at the start", "MiB at the end", "MiB at most", "growth, MiB per hour", "verdict",
            "responses", "unanswered", "failed edits")  # fmt: skip
    tables = {f"Memory with {links // 10:,} cached links": report.table(head, [row])}
    data = {"growth": growth, "verdict": verdict, "load": load, "samples": samples}
    report.print_result(tables, conditions, "soak", data)
    return 1 if failed or (growth is not None and verdict != "flat") else 0


def growth_of(samples: Sequence[Sample]) -> Growth:
    """Return the least-squares slope through the medians of BLOCKS parts of equal length."""
    start, end = samples[0][0], samples[-1][0]
    parts: list[list[float]] = [[] for _ in range(BLOCKS)]
    for at, mib in samples:
        parts[min(BLOCKS - 1, int((at - start) / (end - start) * BLOCKS))].append(mib)
    hours = [(number + 0.5) * (end - start) / BLOCKS / 3600 for number in range(BLOCKS)]
    levels = [median(part) for part in parts]
    slope, intercept = linear_regression(hours, levels)
    residual = sum((y - intercept - slope * x) ** 2 for x, y in zip(hours, levels, strict=True))
    spread = sum((x - fmean(hours)) ** 2 for x in hours)
    return Growth(slope, T_95 * math.sqrt(residual / (BLOCKS - 2) / spread))


def _soak(
    deployment: Deployment, codes: list[str], seconds: float
) -> tuple[list[Sample], Load, int]:
    cached = len(codes) // 10
    part = deployment.stack.redirector(L1_MAX_ENTRIES=str(cached))
    machine.pin(part.child.pid, machine.SERVER_CORES)
    port, folder = int(part.url.rpartition(":")[2]), deployment.servers.folder
    paths = [f"/{code}" for code in codes]
    # The popular links come last, so that the cache has them when the clock starts.
    send_all(port, traffic.gets(folder / "fill.requests", paths[3 * cached - 1 :: -1]))
    if part.metric("shortlinks_local_cache_evictions_total") < cached:
        raise LoadError("the local cache is not full")
    requests = traffic.weighted(paths, traffic.zipf(len(paths)), 1_000_000, seed=9)
    requests[::10] = traffic.unknown_codes(codes, len(requests) // 10, seed=10)
    stream = traffic.gets(folder / "soak.requests", requests)
    samples: list[Sample] = []
    failed_edits = 0
    choose = random.Random(11)
    with deployment.stack.api(deployment.writer) as api, ThreadPoolExecutor(1) as executor:
        load = executor.submit(send, port, stream, seconds, rate=RATE)
        start = time.monotonic()
        while not load.done():
            at = time.monotonic() - start
            if not samples or at - samples[-1][0] >= min(1, seconds / 60):
                samples.append((round(at, 2), round(machine.rss_mib(part.child.pid), 2)))
            failed_edits += not _edit(api, choose.choice(codes))
            time.sleep(EDIT_EVERY_S)
        return samples, load.result(), failed_edits


def _edit(api: httpx.Client, code: str) -> bool:
    """Change the target of a link; returns whether that succeeded."""
    target = f"https://example.com/edited/{time.time_ns()}"
    try:
        return api.patch(f"/api/v1/links/{HOST}/{code}", json={"target": target}).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())
