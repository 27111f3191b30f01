"""The services of a local stack: how to run them, their settings, and when they are ready."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from shortctl.dev.ports import Ports, url
from shortctl.embedded import Child, ServerError
from shortctl.embedded.ports import LOOPBACK

READY_TIMEOUT_S = 45


def command(program: str, *arguments: str) -> list[str]:
    """Return the command line of a program that is installed in this Python environment.

    Raises ServerError if it is not installed.
    """
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        raise ServerError(f"{program} is not installed in this environment")
    return [path, *arguments]


def environment(
    ports: Ports, postgres_url: str, redis_url: str, code_secret: Path
) -> dict[str, str]:
    """Return the environment of all services: their settings, added to that of the caller."""
    fixed = {
        "POSTGRES_URL": postgres_url,
        "REDIS_URL": redis_url,
        "WRITER_HOST": LOOPBACK,
        "WRITER_PORT": str(ports.writer),
        "WRITER_ADMIN_PORT": str(ports.writer_admin),
        "REDIRECTOR_HOST": LOOPBACK,
        "REDIRECTOR_PORT": str(ports.redirector),
        "REDIRECTOR_ADMIN_PORT": str(ports.redirector_admin),
        "RELAY_ADMIN_PORT": str(ports.relay_admin),
        "WORKER_ADMIN_PORT": str(ports.worker_admin),
    }
    # A developer can set these in the environment.
    defaults = {
        "DEFAULT_DOMAIN": "localhost",
        "SHORT_URL_SCHEME": "http",
        "SHORT_URL_PORT": str(ports.redirector),
        "DRAIN_DELAY_MS": "0",  # no load balancer has to notice the shutdown
        "LOG_FORMAT": "console",
    }
    if "SHORTLINKS_CODE_SECRET" not in os.environ:
        defaults["CODE_SECRET_FILE"] = str(code_secret)
    return _prefixed(defaults) | dict(os.environ) | _prefixed(fixed)


def wait_ready(services: Mapping[int, Child], stopping: Callable[[], bool]) -> None:
    """Return when every service, given by its admin port, is ready, or when `stopping` is true.

    Raises ServerError if a service ends, or is not ready after `READY_TIMEOUT_S`.
    """
    waiting = dict(services)
    deadline = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(timeout=1, trust_env=False) as client:
        while waiting and not stopping():
            for port, service in list(waiting.items()):
                if not service.running:
                    raise ServerError(
                        f"{service.name} ended before it was ready:\n{service.tail()}"
                    )
                if _ready(client, port):
                    del waiting[port]
            if time.monotonic() > deadline:
                late = next(iter(waiting.values()))
                raise ServerError(
                    f"{late.name} is not ready after {READY_TIMEOUT_S} s:\n{late.tail()}"
                )
            time.sleep(0.03)


def _ready(client: httpx.Client, port: int) -> bool:
    try:
        return client.get(f"{url(port)}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _prefixed(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"SHORTLINKS_{name}": value for name, value in settings.items()}
