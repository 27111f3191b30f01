"""A real nginx in front of one part, as ingress controllers configure it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection

from harness.waiting import until
from shortctl.embedded.ports import free_port

PLAIN = 'proxy_set_header Connection "";'
"""Keeps connections to the server alive, as nginx's manual says; Upgrade is not passed on."""

UPGRADES = (
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
)
"""Passes Upgrade on, as the template of ingress-nginx does for WebSockets."""

_CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream part {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://part; proxy_http_version 1.1; proxy_set_header Host $http_host;
            {headers}
        }}
    }}
}}
"""


def find() -> str | None:
    """Return the path of nginx, or None."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(folder: Path, upstream: str, headers: str) -> Iterator[int]:
    """Run nginx in front of `upstream` (host:port); gives the port it listens on."""
    program = find()
    assert program is not None
    port = free_port()
    text = _CONFIGURATION.format(folder=folder, upstream=upstream, headers=headers, port=port)
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def listens() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            create_connection(("127.0.0.1", port), timeout=1).close()
            return True

        until(listens, "nginx listens", retry=(OSError,))
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)
