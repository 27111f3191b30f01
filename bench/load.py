"""Runs a load generator and reads what it found.

Closed loop: wrk where it is installed. Open loop: generator.c, compiled at the first run where
there is a C compiler. Where either is missing generator.py stands in, and the result says so.
"""

import atexit
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from bench.machine import roles
from bench.requests import Stream

HERE = Path(__file__).parent
BEYOND_S = 120
"""What a generator may take beyond the time that it was given, to read its file and to end."""

LOOPBACK = "127.0.0.1"


class LoadError(Exception):
    """A load generator failed, or the server gave answers of another kind than expected."""


@dataclass(frozen=True)
class Loaded:
    """Answers a second, latencies in µs by percentile, and the generator's share of its core.

    `total` counts all answers, also those before the clock ran.
    """

    rate: float
    total: int
    us: dict[str, float] = field(default_factory=dict)
    client_cpu: float = 0.0
    unanswered: int = 0
    statuses: dict[str, int] = field(default_factory=dict)


def tools() -> dict[str, str]:
    """Return what generates the load here."""
    own = "bench/generator.c" if _compiled() else "bench/generator.py (no C compiler: see its text)"
    wrk = _wrk()
    first = (
        subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False).stdout
        if wrk
        else ""
    )
    return {
        "throughput": " ".join(first.split()[:2]) if wrk else f"{own} (wrk is not installed)",
        "latency": f"{own}, open loop, from due times",
    }


@dataclass(frozen=True)
class Order:
    """What to send: over how many connections, from which request of the stream on, from where."""

    port: int
    stream: Stream
    connections: int
    seconds: float
    warm_s: float
    offset: int = 0
    cores: frozenset[int] = roles().client


def closed(order: Order) -> Loaded:
    """Send as fast as answers come."""
    wrk = _wrk()
    if wrk is None:
        return own(order)

    # wrk takes whole seconds alone, and a warm-up need not be that long.
    warm_up = own(replace(order, seconds=0.0))
    began, before = time.monotonic(), _children_s()
    text = _run(
        [wrk, "-t1", f"-c{order.connections}", f"-d{max(1, round(order.seconds))}s",
         "--timeout", "10s", "-s", str(HERE / "wrk.lua"), f"http://{LOOPBACK}:{order.port}", "--",
         str(order.stream.path), str(order.offset + warm_up.total)],
        order,
    )  # fmt: skip
    share = (_children_s() - before) / (time.monotonic() - began)
    if "Socket errors" in text:
        raise LoadError(text)
    return Loaded(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        warm_up.total + int(_found(r"(\d+) requests in", text)),
        client_cpu=share,
    )


def own(order: Order, rate: float = 0) -> Loaded:
    """Use our own generator: open loop at `rate` requests a second, closed loop when it is 0."""
    compiled = _compiled()
    program = [str(compiled)] if compiled else [sys.executable, str(HERE / "generator.py")]
    numbers = (
        order.port, order.connections, order.seconds, order.warm_s, rate, order.offset,
    )  # fmt: skip
    command = [*program, LOOPBACK, *map(str, numbers), str(order.stream.path)]
    found = json.loads(_run(command, order))
    return Loaded(
        found["answers"] / (found["seconds"] or 1),
        found["total"],
        found["us"],
        found["cpu_share"],
        found["unanswered"],
        found["statuses"],
    )


def _run(command: list[str], order: Order) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, order.cores),
        timeout=order.warm_s + order.seconds + BEYOND_S,
    )
    if done.returncode:
        raise LoadError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def _wrk() -> str | None:
    return None if "wrk" in _without() else shutil.which("wrk")


@cache
def _compiled() -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or "cc" in _without():
        return None
    folder = Path(tempfile.mkdtemp(prefix="shortlinks-bench-cc-"))
    atexit.register(shutil.rmtree, folder)
    program = folder / "generator"
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(HERE / "generator.c")],
        capture_output=True,
        check=False,
    )
    return program if done.returncode == 0 else None


def _without() -> list[str]:
    return os.environ.get("BENCH_WITHOUT", "").split(",")


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise LoadError(f"no {pattern} in:\n{text}")
    return match[1]
