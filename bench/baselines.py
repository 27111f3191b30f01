"""What the redirector is compared with: a no-op ASGI application on uvicorn, and nginx."""

import contextlib
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.waiting import until

from bench.cases import Case, Server
from bench.machine import SERVER_CORES, pin
from bench.traffic import Stream
from shortctl.embedded import Child, stop_all
from shortctl.embedded.ports import LOOPBACK, free_port

# The options that the redirector gives to uvicorn.
UVICORN = """
-m uvicorn bench.noop:app --http httptools --loop uvloop --interface asgi3 --lifespan off --ws none
--backlog 4096 --timeout-keep-alive 75 --no-access-log --log-level critical --no-server-header
--no-proxy-headers --port {port}
"""
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


@contextlib.contextmanager
def open_baselines(folder: Path, stream: Stream) -> Iterator[list[Server]]:
    """Start the no-op application, and nginx if it is installed."""
    children: list[Child] = []

    def start(name: str, port: int, argv: list[str]) -> Server:
        child = Child(name.replace(" ", "-"), argv, folder)
        children.append(child)
        child.start()
        until(lambda: _listens(port), f"{name} listens", within_s=15)
        pin(child.pid, SERVER_CORES)
        return Server(Case(name, stream), "", port, child.pid)

    try:
        port = free_port()
        found = [start("no-op ASGI", port, [sys.executable, *UVICORN.format(port=port).split()])]
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx:
            port = free_port()
            configuration = folder / "nginx.conf"
            configuration.write_text(NGINX.format(folder=folder, port=port))
            found.append(start("nginx", port, [nginx, "-p", str(folder), "-c", str(configuration)]))
        yield found
    finally:
        stop_all(children)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
