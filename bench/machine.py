"""CPU pinning, CPU and memory accounting, and the conditions of a result."""

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import psutil

CORES = sorted(os.sched_getaffinity(0))
ALL_CORES = frozenset(CORES)
SERVER_CORES = frozenset(CORES[:1])
CLIENT_CORES = frozenset(CORES[1:2] or CORES)
STORE_CORES = frozenset(CORES[2:] or CLIENT_CORES)
"""PostgreSQL, Valkey, writer and relay. With two cores they share the load generator's core, so that
a redirector has a core to itself, as a pod would."""

PACKAGES = ("uvicorn", "uvloop", "httptools", "asyncpg", "redis", "hiredis", "fastapi")


def pin(pid: int, cores: Iterable[int]) -> None:
    """Bind all threads of a process and of its children to `cores`; later threads inherit it."""
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children, to the nanosecond (`/proc/PID/schedstat`)."""
    return sum(
        int(file.read_text().split()[0]) / 1e9
        for process in _tree(pid)
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    )


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and its children, in MiB."""
    return float(sum(process.memory_info().rss for process in _tree(pid))) / 2**20


def conditions(command: str) -> dict[str, str]:
    """Return what a reader needs to repeat a result, or to doubt it."""
    return {
        "command": command,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "processor": _processor(),
        "cores": f"{len(CORES)} (server: {_listed(SERVER_CORES)}, load generator: "
        f"{_listed(CLIENT_CORES)}, PostgreSQL and Valkey: {_listed(STORE_CORES)})",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "CPU in use before the run": f"{psutil.cpu_percent(interval=1):.0f}% of all cores",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _processor() -> str:
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _listed(cores: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(cores)))
