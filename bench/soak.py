"""Whether a redirector's memory grows: `MINUTES=10` of mixed traffic on a full local cache.

Zipf traffic over ten times as many links as the cache holds, with a tenth of unknown codes, at a
fixed rate, while links are edited; memory is read each second. Before the clock starts, three times
as many links as it holds are asked for once, so that the cache, the versions of links that left it
and the tables of both are as large as they become.

Growth is the slope of the second half: a line through the medians of BLOCKS equal parts, as samples
of one second are no independent witnesses of anything. Flat is said only of a slope that stays
below GROWTH_MIB_PER_HOUR with its error (95%, Student's t) on top.
"""

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import httpx
from harness.stack import Part

from bench import machine, requests
from bench.load import LoadError, Order, own
from bench.machine import pin, rss_mib
from bench.plan import CONNECTIONS, PLANS
from bench.report import RESULTS
from bench.requests import HOST
from bench.world import World, open_world

RATE = 5000.0
EDIT_EVERY_S = 0.02
LEAST_MINUTES = 5.0
"""A shorter soak shows that the harness works, and says nothing of growth."""

GROWTH_MIB_PER_HOUR = 6.0
"""What counts as flat: less than the noise of the allocator over such a time."""

BLOCKS = 12
T_95 = 2.228
"""Student's t for BLOCKS - 2 degrees of freedom, both sides."""

WARM_S = 5.0
WARM_WITHIN_S = 180.0

Sample = tuple[float, float]
"""Seconds since the start, MiB."""


@dataclass(frozen=True)
class Growth:
    """MiB an hour, give or take `error` (95%)."""

    mib_per_hour: float
    error: float

    @property
    def verdict(self) -> str:
        """Say what is shown."""
        if self.mib_per_hour + self.error <= GROWTH_MIB_PER_HOUR:
            return "flat"
        grows = self.mib_per_hour - self.error > GROWTH_MIB_PER_HOUR
        return "growing" if grows else "not shown to be flat"


def main() -> int:
    """Soak one redirector; returns 1 unless its memory is flat and all answers are as they should."""
    minutes = float(os.environ.get("MINUTES", "10"))
    links = int(os.environ.get("LINKS", str(PLANS["full"].links)))
    conditions = machine.conditions(f"make soak-memory MINUTES={minutes:g} LINKS={links}")
    plan = replace(PLANS["full"], links=links)
    failures: list[str] = []
    with open_world(plan.links) as world:
        samples = _soak(world, plan.local_share, minutes * 60, failures)
    late = [s for s in samples if s[0] >= minutes * 30]
    if len(late) < 2 * BLOCKS:
        raise RuntimeError(f"{len(late)} samples in the second half; {failures}")
    growth = growth_of(late)
    long_enough = minutes >= LEAST_MINUTES
    verdict = growth.verdict if long_enough else "too short for a verdict"
    data = {
        "conditions": conditions,
        "samples": samples,
        "growth_mib_per_hour": growth.mib_per_hour,
        "growth_error": growth.error,
        "verdict": verdict,
        "failures": failures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(data) + "\n")
    print(f"RSS {samples[0][1]:.0f} MiB full at the start, {samples[-1][1]:.0f} MiB after "
          f"{minutes:g} min, at most {max(mib for _, mib in samples):.0f}; in the second half "
          f"{growth.mib_per_hour:+.1f} ± {growth.error:.1f} MiB an hour: {verdict}")  # fmt: skip
    for failure in failures:
        print(failure)
    return 1 if failures or (long_enough and verdict != "flat") else 0


def growth_of(samples: Sequence[Sample]) -> Growth:
    """Return the least-squares slope through the medians of BLOCKS parts of equal length."""
    began, ended = samples[0][0], samples[-1][0]
    parts: list[list[float]] = [[] for _ in range(BLOCKS)]
    for at, mib in samples:
        parts[min(BLOCKS - 1, int((at - began) / (ended - began) * BLOCKS))].append(mib)
    hours = [(number + 0.5) * (ended - began) / BLOCKS / 3600 for number in range(BLOCKS)]
    levels = [median(part) for part in parts]
    mean_x, mean_y = sum(hours) / BLOCKS, sum(levels) / BLOCKS
    spread = sum((x - mean_x) ** 2 for x in hours)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(hours, levels, strict=True)) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(hours, levels, strict=True))
    return Growth(slope, T_95 * math.sqrt(left / (BLOCKS - 2) / spread))


def _soak(world: World, cached: int, seconds: float, failures: list[str]) -> list[Sample]:
    part = world.stack.redirector(L1_MAX_ENTRIES=str(cached))
    pin(part.child.pid, machine.roles().server)
    port = int(part.url.rpartition(":")[2])
    _fill(world, part, port, cached)
    paths = requests.zipf(world.codes, 1_000_000, seed=9)
    paths[::10] = requests.unknown_codes(world.codes, len(paths) // 10, seed=10)
    stream = requests.gets(world.folder / "soak.requests", paths)
    order = Order(port, stream, CONNECTIONS, seconds, 0)
    load = threading.Thread(target=_run, args=(order, failures), name="load")
    load.start()
    samples: list[Sample] = []
    began = time.monotonic()
    choose = random.Random(11)
    with world.stack.api(world.writer) as api:
        while load.is_alive():
            at = time.monotonic() - began
            if not samples or at - samples[-1][0] >= 1:
                samples.append((round(at, 2), round(rss_mib(part.child.pid), 2)))
            try:
                _edit(api, choose.choice(world.codes))
            except httpx.HTTPError as error:
                failures.append(f"an edit failed after {at:.0f} s: {error}")
            time.sleep(EDIT_EVERY_S)
    load.join()
    return samples


def _fill(world: World, part: Part, port: int, cached: int) -> None:
    """Ask for each of three times as many links as the cache holds, the popular ones last."""
    paths = [f"/{code}" for code in world.codes[3 * cached - 1 :: -1]]
    stream = requests.gets(world.folder / "fill.requests", paths)
    order = Order(port, stream, CONNECTIONS, WARM_S, 0)
    deadline = time.monotonic() + WARM_WITHIN_S
    sent = 0
    while sent < len(paths):
        if time.monotonic() > deadline:
            raise LoadError(f"asked for {sent} links of {len(paths)} within {WARM_WITHIN_S:g} s")
        sent += own(replace(order, offset=sent)).total
    evictions = part.metric("shortlinks_local_cache_evictions_total")
    if evictions < cached:
        raise LoadError(f"the cache is not full: {evictions:g} evictions")


def _edit(api: httpx.Client, code: str) -> None:
    path = f"/api/v1/links/{HOST}/{code}"
    answer = api.patch(path, json={"target": f"https://example.com/edited/{time.time_ns()}"})
    answer.raise_for_status()


def _run(order: Order, failures: list[str]) -> None:
    try:
        load = own(order, RATE)
    except (LoadError, subprocess.TimeoutExpired) as error:
        failures.append(str(error))
        return
    strange = {status: n for status, n in load.statuses.items() if status not in {"302", "404"}}
    if strange or load.unanswered:
        failures.append(f"answers {load.statuses}, unanswered {load.unanswered}")


if __name__ == "__main__":
    sys.exit(main())
