"""Compiles and runs the load generator (`generator.c`)."""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.machine import CLIENT_CORES
from bench.traffic import Stream

CONNECTIONS = 64
TIMEOUT_S = 120
"""Time to read the request file and to finish, besides the measurement itself."""


class LoadError(Exception):
    """The load generator failed, or the server gave unexpected responses."""


@dataclass(frozen=True)
class Load:
    """Responses per second, latency percentiles in µs, and the generator's share of its core.

    `total` also counts the responses of the warm-up. `unanswered` requests were due and got no
    response in time; their latency counts as the time waited.
    """

    rate: float
    total: int
    us: dict[str, float]
    client_cpu: float
    unanswered: int
    statuses: dict[str, int]


def send(
    port: int,
    stream: Stream,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    warm_s: float = 0,
    rate: float = 0,
    offset: int = 0,
    cores: frozenset[int] = CLIENT_CORES,
) -> Load:
    """Send the requests of `stream` in their order, from `offset` on, and again from the start.

    `rate` is in requests per second (open loop: latency counts from the time at which a request was
    due). With rate 0, each connection sends its next request after a response (closed loop).
    """
    numbers = (port, connections, seconds, warm_s, rate, offset)
    done = subprocess.run(
        [str(_generator()), *map(str, numbers), str(stream.file)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        timeout=warm_s + seconds + TIMEOUT_S,
    )
    if done.returncode:
        raise LoadError(done.stderr.strip())
    return Load(**json.loads(done.stdout))


def send_all(port: int, stream: Stream) -> None:
    """Send every request of `stream` at least once."""
    sent = 0
    while sent < stream.count:
        sent += send(port, stream, max(0.3, (stream.count - sent) / 50_000), offset=sent).total


@cache
def _generator() -> Path:
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise LoadError("The load generator needs a C compiler: install gcc or clang.")
    folder = Path(tempfile.mkdtemp(prefix="shortlinks-generator-"))
    atexit.register(shutil.rmtree, folder)
    source = Path(__file__).with_name("generator.c")
    subprocess.run([*compiler.split(), "-O2", "-o", folder / "generator", source], check=True)
    return folder / "generator"
