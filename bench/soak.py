"""Whether a redirector's memory grows: `MINUTES=10` of mixed traffic on a full local cache.

Zipf traffic over ten times as many links as the cache holds, with a tenth of unknown codes, at a
fixed rate, while links are edited; memory is read each second. Growth is the slope of the second
half, by least squares, as the first half fills caches.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import httpx

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


def main() -> int:
    """Soak one redirector; returns 1 when its memory grows."""
    minutes = float(os.environ.get("MINUTES", "10"))
    links = int(os.environ.get("LINKS", str(PLANS["full"].links)))
    conditions = machine.conditions(f"make soak-memory MINUTES={minutes:g} LINKS={links}")
    plan = replace(PLANS["full"], links=links)
    with open_world(plan.links) as world:
        samples = _soak(world, plan.local_share, minutes * 60)
    growth = slope([s for s in samples if s[0] >= minutes * 30]) * 3600
    data = {"conditions": conditions, "samples": samples, "growth_mib_per_hour": growth}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(data) + "\n")
    print(f"RSS {samples[0][1]:.0f} MiB at the start, {samples[-1][1]:.0f} MiB after {minutes:g} "
          f"min, growing by {growth:.1f} MiB an hour in the second half")  # fmt: skip
    return 1 if growth > GROWTH_MIB_PER_HOUR and minutes >= LEAST_MINUTES else 0


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of (x, y)."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


def _soak(world: World, cached: int, seconds: float) -> list[tuple[float, float]]:
    part = world.stack.redirector(L1_MAX_ENTRIES=str(cached))
    pin(part.child.pid, machine.roles().server)
    paths = requests.zipf(world.codes, 1_000_000, seed=9)
    unknown = requests.unknown_codes(len(paths) // 10, 7, seed=10)
    paths[::10] = unknown
    stream = requests.gets(world.folder / "soak.requests", paths)
    order = Order(int(part.url.rpartition(":")[2]), stream, CONNECTIONS, seconds, 0)
    failures: list[str] = []
    load = threading.Thread(target=_run, args=(order, failures), name="load")
    load.start()
    samples: list[tuple[float, float]] = []
    began = time.monotonic()
    choose = random.Random(11)
    with world.stack.api(world.writer) as api:
        while load.is_alive():
            at = time.monotonic() - began
            if not samples or at - samples[-1][0] >= 1:
                samples.append((round(at, 2), round(rss_mib(part.child.pid), 2)))
            _edit(api, choose.choice(world.codes[: 10 * cached]))
            time.sleep(EDIT_EVERY_S)
    load.join()
    if failures:
        raise RuntimeError(failures[0])
    return samples


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
    if strange:
        failures.append(f"answers {load.statuses}")


if __name__ == "__main__":
    sys.exit(main())
