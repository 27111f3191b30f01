"""The real services as real processes, wired to servers that a test can stop, pause and cut."""

import http.client
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import psutil

from harness.waiting import until
from shortctl.dev.services import command
from shortctl.embedded import Child, stop_all
from shortctl.embedded.ports import free_port

READY_WITHIN_S = 60


@dataclass(eq=False)
class Part:
    """One service process and where it listens."""

    child: Child
    admin_url: str
    url: str = ""

    def wait_ready(self) -> None:
        """Return when it is ready; fails with the end of its log."""

        def ready() -> bool:
            assert self.child.running, f"{self.child.name} ended:\n{self.child.tail(40)}"
            return self.ask("/readyz")[0] == 200

        until(ready, f"{self.child.name} is ready", READY_WITHIN_S, details=self._end_of_log)

    def _end_of_log(self) -> str:
        return self.child.tail(40)

    def restart(self) -> None:
        """Start it again after a stop or a kill, on the same ports."""
        self.child.start()
        self.wait_ready()

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of a path on the admin port; (0, "") while nobody answers."""
        # Not by httpx: each of its clients reads the machine's certificates first.
        connection = http.client.HTTPConnection(urlsplit(self.admin_url).netloc, timeout=15)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def memory(self) -> int:
        """Return the resident memory of the process in bytes."""
        return int(psutil.Process(self.child.pid).memory_info().rss)

    def metric(self, sample: str) -> float:
        """Return the value of one line of `/metrics`, named with its labels; 0 if absent."""
        for line in self.ask("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0


@dataclass(eq=False)
class Stack:
    """Writers, relays and redirectors over one PostgreSQL and one Redis.

    `settings` are SHORTLINKS_ names without the prefix, for every part; `start_*` take more for
    one part (another URL through a proxy, for example). `programs` is the folder of the programs to
    start; None means those of this environment.
    """

    folder: Path
    postgres_url: str
    redis_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    api_key: str = ""
    programs: Path | None = None

    def __post_init__(self) -> None:
        self._secret = secrets.token_hex(16)
        self._prefix = f"stack-{secrets.token_hex(4)}:"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self.parts:
            if part.child.running:
                part.child.resume()
        stop_all([part.child for part in self.parts], timeout_s=10)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a part."""
        names = {
            "POSTGRES_URL": self.postgres_url,
            "REDIS_URL": self.redis_url,
            "REDIS_PREFIX": self._prefix,
            "CODE_SECRET": self._secret,
            "WRITER_HOST": "127.0.0.1",
            "REDIRECTOR_HOST": "127.0.0.1",
            "DEFAULT_DOMAIN": "localhost",
            "SHORT_URL_SCHEME": "http",
            "DRAIN_DELAY_MS": "0",
            "LOG_FORMAT": "json",
            **self.settings,
            **extra,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SHORTLINKS_")}
        return clean | {f"SHORTLINKS_{name}": value for name, value in names.items()}

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line of one of the programs."""
        if self.programs is None:
            return command(program, *arguments)
        return [str(self.programs / program), *arguments]

    def writer(self, **extra: str) -> Part:
        """Start a writer and wait until it is ready; the first one also makes the API key."""
        part = self._start("writer", ["shortlinks-writer", "serve"], extra, public=True)
        if not self.api_key:
            self.api_key = self.create_key("test")
        return part

    def measured_writer(self, **extra: str) -> Part:
        """Start a writer that also says how long its event loop was held (`harness.held`)."""
        here = Path(__file__).parent.parent
        path = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
        argv = [sys.executable, "-m", "harness.held"]
        part = self._start("writer", argv, {**extra}, public=True, variables={"PYTHONPATH": path})
        if not self.api_key:
            self.api_key = self.create_key("test")
        return part

    def relay(self, **extra: str) -> Part:
        """Start a relay and wait until it is ready."""
        return self._start("relay", ["shortlinks-writer", "relay"], extra, public=False)

    def worker(self, **extra: str) -> Part:
        """Start a worker and wait until it is ready."""
        return self._start("worker", ["shortlinks-writer", "worker"], extra, public=False)

    def redirector(self, **extra: str) -> Part:
        """Start a redirector and wait until it is ready."""
        return self._start("redirector", ["shortlinks-redirector", "serve"], extra, public=True)

    def patched(self, role: str, code: str, **extra: str) -> Part:
        """Start a part in which Python `code` runs first."""
        module, argument = {
            "writer": ("writer.main", "serve"),
            "relay": ("writer.main", "relay"),
            "worker": ("writer.main", "worker"),
            "redirector": ("redirector.main", "serve"),
        }[role]
        run = f"{code}\nimport sys, {module}\nsys.exit({module}.main(['{argument}']))\n"
        return self._start(
            role, [sys.executable, "-c", run], extra, public=role in {"writer", "redirector"}
        )

    def create_key(self, name: str) -> str:
        """Make an API key by the command that operators use."""
        made = subprocess.run(
            self.command("shortlinks-writer", "create-key", "--name", name),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return made.stdout.strip()

    def api(self, writer: Part) -> httpx.Client:
        """Return a client of the API with the key set."""
        return httpx.Client(
            base_url=writer.url,
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=30,
            trust_env=False,
        )

    def _start(
        self,
        role: str,
        argv: list[str],
        extra: Mapping[str, str],
        *,
        public: bool,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Part:
        upper = role.upper()
        admin = free_port()
        ports = {f"{upper}_ADMIN_PORT": str(admin)}
        url = ""
        if public:
            port = free_port()
            ports[f"{upper}_PORT"] = str(port)
            url = f"http://127.0.0.1:{port}"
        child = Child(
            f"{role}{len(self.parts)}",
            argv if argv[0] == sys.executable else self.command(*argv),
            self.folder,
            environment=self.environment(**ports, **extra) | dict(variables),
        )
        part = Part(child, f"http://127.0.0.1:{admin}", url)
        self.parts.append(part)
        child.start()
        part.wait_ready()
        return part
