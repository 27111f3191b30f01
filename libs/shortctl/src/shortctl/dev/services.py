"""The services that `shortctl dev` runs: their ports, their settings, and how they are doing."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from shortctl.embedded import Child, ServerError
from shortctl.embedded.ports import LOOPBACK, taken

DEFAULT_BASE = 8000
BASE_STEP = 100
READY_WITHIN_S = 45
_TROUBLE = re.compile(r"\[(warning|error|critical)\s*\]|^(Traceback|\S*(Error|Exception)\b)")
_NEW_LINE = re.compile(r"^\d{4}-\d\d-\d\d")


class PortsTakenError(Exception):
    """The wanted ports are taken; the message says which and what to do."""


@dataclass(frozen=True)
class Ports:
    """Who listens where: seven ports in a row from `base`."""

    base: int

    @property
    def writer(self) -> int:
        """The API."""
        return self.base

    @property
    def redirector(self) -> int:
        """The short links."""
        return self.base + 1

    @property
    def writer_admin(self) -> int:
        """Probes and metrics of the writer."""
        return self.base + 2

    @property
    def redirector_admin(self) -> int:
        """Probes and metrics of the redirector."""
        return self.base + 3

    @property
    def relay_admin(self) -> int:
        """Probes and metrics of the relay."""
        return self.base + 4

    @property
    def postgres(self) -> int:
        """PostgreSQL."""
        return self.base + 5

    @property
    def redis(self) -> int:
        """Valkey."""
        return self.base + 6

    @classmethod
    def choose(cls, wanted: int | None, say: Callable[[str], None]) -> "Ports":
        """Return free ports from `wanted`, or from the first base that has them if None.

        Raises PortsTakenError when somebody listens on the wanted ones.
        """
        base = DEFAULT_BASE if wanted is None else wanted
        first = busy = taken(range(base, base + 7))
        while busy and wanted is None and base < DEFAULT_BASE + 100 * BASE_STEP:
            base += BASE_STEP
            busy = taken(range(base, base + 7))
        if busy:
            raise PortsTakenError(
                f"{_listed(busy)} taken: choose others with --port-base (make run PORT_BASE=...)"
            )
        if first:
            say(f"{_listed(first)} taken: using {base} to {base + 6} instead")
        return cls(base)


def url(port: int) -> str:
    """Return the HTTP address of a port of ours."""
    return f"http://{LOOPBACK}:{port}"


def environment(
    ports: Ports, postgres_url: str, redis_url: str, code_secret: Path
) -> dict[str, str]:
    """Return the settings of all services, over the caller's own environment."""
    ours = {
        "POSTGRES_URL": postgres_url,
        "REDIS_URL": redis_url,
        "WRITER_HOST": LOOPBACK,
        "WRITER_PORT": str(ports.writer),
        "WRITER_ADMIN_PORT": str(ports.writer_admin),
        "REDIRECTOR_HOST": LOOPBACK,
        "REDIRECTOR_PORT": str(ports.redirector),
        "REDIRECTOR_ADMIN_PORT": str(ports.redirector_admin),
        "RELAY_ADMIN_PORT": str(ports.relay_admin),
    }
    # What a developer may want otherwise, and says so in the environment.
    defaults = {
        "DEFAULT_DOMAIN": "localhost",
        "SHORT_URL_SCHEME": "http",
        "SHORT_URL_PORT": str(ports.redirector),
        "DRAIN_DELAY_MS": "0",  # no load balancer has to hear of the end first
        "LOG_FORMAT": "console",
    }
    if "SHORTLINKS_CODE_SECRET" not in os.environ:
        defaults["CODE_SECRET_FILE"] = str(code_secret)
    return _prefixed(defaults) | dict(os.environ) | _prefixed(ours)


def command(program: str, *arguments: str) -> list[str]:
    """Return how to run a program of this environment. Raises ServerError when it is missing."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        raise ServerError(f"{program} is not installed in this environment")
    return [path, *arguments]


def wait_ready(parts: Mapping[int, Child], stopping: Callable[[], bool]) -> None:
    """Return when every part, given by its admin port, says that it is ready.

    Raises ServerError when one ends or takes too long; returns early when `stopping`.
    """
    waiting = dict(parts)
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client(timeout=1, trust_env=False) as client:
        while waiting and not stopping():
            for port, part in list(waiting.items()):
                if not part.running:
                    raise ServerError(f"{part.name} ended at its start:\n{part.tail()}")
                if _ready(client, port):
                    del waiting[port]
            if time.monotonic() > deadline:
                late = next(iter(waiting.values()))
                raise ServerError(
                    f"{late.name} is not ready after {READY_WITHIN_S} s:\n{late.tail()}"
                )
            time.sleep(0.03)


class Follower:
    """Shows what the parts log: all of it, or warnings and errors with what belongs to them."""

    def __init__(self, parts: Mapping[str, Path], *, everything: bool) -> None:
        self._everything = everything
        self._files = {name: path.open("rb") for name, path in parts.items()}
        self._rest = dict.fromkeys(parts, b"")
        self._showing = dict.fromkeys(parts, False)

    def show(self) -> None:
        """Print the lines that came since the last call."""
        for name, file in self._files.items():
            *lines, self._rest[name] = (self._rest[name] + file.read()).split(b"\n")
            for line in lines:
                self._line(name, line.decode(errors="replace"))

    def close(self) -> None:
        """Print what is left and close the files."""
        self.show()
        for file in self._files.values():
            file.close()

    def _line(self, name: str, line: str) -> None:
        # A traceback follows its log line without a time of its own.
        trouble = _TROUBLE.search(line) is not None
        if trouble or _NEW_LINE.match(line):
            self._showing[name] = trouble
        if self._everything or self._showing[name]:
            print(f"{name:>10} | {line}", flush=True)


def _ready(client: httpx.Client, port: int) -> bool:
    try:
        return client.get(f"{url(port)}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _prefixed(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"SHORTLINKS_{name}": value for name, value in settings.items()}


def _listed(ports: list[int]) -> str:
    names = ", ".join(map(str, ports))
    return f"port {names} is" if len(ports) == 1 else f"ports {names} are"
