"""Which processor runs what, what a process used, and the conditions that a result names."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import psutil

CORES = sorted(os.sched_getaffinity(0))
PAUSE_S = 0.001
"""From this length on a core's absence is told."""


@dataclass(frozen=True)
class Roles:
    """The cores of the server under test, of the load generator, and of the stores behind."""

    server: frozenset[int]
    client: frozenset[int]
    stores: frozenset[int]
    everything: frozenset[int]

    def describe(self) -> str:
        """Return the pinning in a sentence."""
        if self.server == self.client:
            return "one core: nothing is pinned, client and server share it"
        named = {"server": self.server, "client": self.client, "PostgreSQL, Valkey": self.stores}
        return "; ".join(f"{name}: core {_listed(cores)}" for name, cores in named.items())


def roles() -> Roles:
    """Share out the cores: with two, PostgreSQL and Valkey sit beside the client.

    A redirector so has a core to itself, as a pod would; what the stores take is the client's
    loss, and its processor share is reported.
    """
    every = frozenset(CORES)
    if len(CORES) == 1:
        return Roles(every, every, every, every)
    server, client = frozenset(CORES[:1]), frozenset(CORES[1:2])
    return Roles(server, client, frozenset(CORES[2:]) or client, every)


def pin(pid: int, cores: Iterable[int]) -> None:
    """Bind all threads of a process and of those below it; later ones inherit it."""
    wanted = set(cores)
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, wanted)


@dataclass
class Use:
    """Processor seconds, share of a core, MiB of memory at the end; with the processes below."""

    cpu_s: float = 0.0
    cpu: float = 0.0
    rss_mib: float = 0.0


@contextlib.contextmanager
def watch(pid: int) -> Iterator[Use]:
    """Give what a process uses during the block; filled in at its end."""
    use = Use()
    before, began = _seconds(pid), time.monotonic()
    yield use
    use.cpu_s = _seconds(pid) - before
    use.cpu = use.cpu_s / (time.monotonic() - began)
    use.rss_mib = rss_mib(pid)


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and those below it."""
    return float(sum(process.memory_info().rss for process in _tree(pid))) / 2**20


def busy_share(seconds: float = 1.0) -> float:
    """Return how much of the whole machine others use now, before anything is measured."""
    return float(psutil.cpu_percent(interval=seconds)) / 100


def pauses(cores: Iterable[int], seconds: float = 5.0) -> str:
    """Return how often cores were taken from processes that do nothing but look at the clock.

    One looks on each of `cores`, as a server and a client are busy at once. No latency that a
    client measures can be better than that: on a guest, it is the host that takes them.
    """
    each = sorted(set(cores))
    with ProcessPoolExecutor(len(each), mp_context=get_context("spawn")) as pool:
        found = [*pool.map(_gaps, each, [seconds] * len(each))]
    return "; ".join(
        f"core {core}: {len(gaps)} over {PAUSE_S * 1000:.0f} ms, {max(gaps, default=0.0) * 1000:.1f} "
        f"ms at most, {sum(gaps) / seconds:.1%} of {seconds:.0f} s"
        for core, gaps in zip(each, found, strict=True)
    )


def _gaps(core: int, seconds: float) -> list[float]:
    os.sched_setaffinity(0, {core})
    gaps = []
    last = time.perf_counter()
    end = last + seconds
    while last < end:
        now = time.perf_counter()
        if now - last > PAUSE_S:
            gaps.append(now - last)
        last = now
    return gaps


def conditions(command: str) -> dict[str, str]:
    """Return what a reader must know to repeat or to doubt a result."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command,
        "commit": _output("git", "describe", "--always", "--dirty"),
        "processor": _processor(),
        "cores": str(len(CORES)),
        "pinning": roles().describe(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "busy before the run": f"{busy_share():.0%} of all cores",
        "pauses of a machine that only looks at the clock": pauses(roles().server | roles().client),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvicorn", "uvloop", "httptools",
                                            "asyncpg", "redis", "hiredis", "fastapi")},
        "nginx": _output("nginx", "-v") if shutil.which("nginx") else "not installed",
    }  # fmt: skip


def _seconds(pid: int) -> float:
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def _listed(cores: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(cores)))
