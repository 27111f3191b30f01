"""What the redirector is measured against: no-op applications on its servers, and nginx."""

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import pin, roles
from shortctl.embedded import Child, stop_all
from shortctl.embedded.ports import LOOPBACK, free_port

ROOT = Path(__file__).parent.parent
NGINX = """
worker_processes 1; master_process off; daemon off; pid {folder}/nginx.id; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 302 https://example.com/articles/12345?from=bench; }}
    }}
}}
"""


@dataclass(frozen=True)
class Baseline:
    """A running server that answers each request with the same redirect."""

    name: str
    port: int
    child: Child


@contextlib.contextmanager
def open_baselines(folder: Path, servers: list[str]) -> Iterator[list[Baseline]]:
    """Start a no-op for each of `servers`, and nginx where it is installed."""
    found: list[Baseline] = []
    try:
        for server in servers:
            port = free_port()
            argv = [sys.executable, "-m", f"bench.noop_{server}", str(port)]
            found.append(_start(f"noop {server}", port, argv, folder))
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx:
            port = free_port()
            configuration = folder / "nginx.conf"
            configuration.write_text(NGINX.format(folder=folder, port=port))
            argv = [nginx, "-p", str(folder), "-c", str(configuration)]
            found.append(_start("nginx", port, argv, folder))
        yield found
    finally:
        stop_all([each.child for each in found])


def _start(name: str, port: int, argv: list[str], folder: Path) -> Baseline:
    child = Child(name.replace(" ", "-"), argv, folder, environment={"PYTHONPATH": str(ROOT)})
    child.start()
    deadline = time.monotonic() + 15
    while not _listens(port):
        if not child.running or time.monotonic() > deadline:
            child.stop()
            raise RuntimeError(f"{name} does not start:\n{child.tail()}")
        time.sleep(0.02)
    pin(child.pid, roles().server)
    return Baseline(name, port, child)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
