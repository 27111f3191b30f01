"""`shortctl dev`: the whole system on this machine, until Ctrl-C."""

import ctypes
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import httpx
import typer

from shortctl.dev.services import (
    Follower,
    Ports,
    PortsTakenError,
    command,
    environment,
    url,
    wait_ready,
)
from shortctl.dev.state import Facts, StateFolder, StateInUseError
from shortctl.embedded import Child, EmbeddedPostgres, EmbeddedValkey, ServerError, stop_all
from shortctl.embedded.account import AccountError

SERVICES = {
    "writer": ("shortlinks-writer", "serve"),
    "relay": ("shortlinks-writer", "relay"),
    "redirector": ("shortlinks-redirector", "serve"),
}
Part = Child | EmbeddedPostgres | EmbeddedValkey
FORMER_RUN_S = 5  # how long a run that is just ending may take before we call it running
PR_SET_PDEATHSIG = 1


def dev(
    state: Annotated[
        Path, typer.Option(help="Folder that keeps data, logs and secrets between runs.")
    ] = Path(".state"),
    port_base: Annotated[
        int | None,
        typer.Option(min=1, max=65_529, help="First of seven ports in a row. [default: 8000]"),
    ] = None,
    postgres_url: Annotated[
        str | None, typer.Option(help="Use this PostgreSQL instead of an embedded one.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this Redis or Valkey instead of an embedded one.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show all log lines, not only warnings.")
    ] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start PostgreSQL, Valkey, writer, relay and redirector here; Ctrl-C stops all."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if with_parent and sys.platform == "linux":
        # A killed `make` cannot pass its end on to us; the kernel can.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    folder = StateFolder(state)
    try:
        with folder.lock(wait_s=FORMER_RUN_S):
            _Run(folder, stop, verbose=verbose).run(port_base, postgres_url, redis_url)
    except (ServerError, AccountError, StateInUseError, PortsTakenError, PermissionError) as error:
        if not stop.is_set():  # else it is only what stopping midway looks like
            print(f"shortctl dev: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


class _Run:
    """One run: everything that was started is on the stack, which stops it in reverse order."""

    def __init__(self, folder: StateFolder, stop: threading.Event, *, verbose: bool) -> None:
        self._folder = folder
        self._stop = stop
        self._verbose = verbose
        self._environment: dict[str, str] = {}

    def run(self, port_base: int | None, postgres_url: str | None, redis_url: str | None) -> None:
        """Start all, say so, and stay until a signal or until a part ends.

        Raises ServerError when a part does not start or ends by itself.
        """
        began = time.monotonic()
        for name, part in (self._services() | self._servers(None)).items():
            if part.stop_left_over():
                print(f"stopped the {name} that a former run left behind", flush=True)
        ports = Ports.choose(port_base, lambda text: print(text, flush=True))
        servers = self._servers(ports)
        given = {"postgres": postgres_url, "redis": redis_url}
        watched: dict[str, Part] = {n: s for n, s in servers.items() if given[n] is None}
        with ExitStack() as started:
            for server in watched.values():
                started.callback(server.stop)
                server.start()
            postgres_url = postgres_url or servers["postgres"].url
            redis_url = redis_url or servers["redis"].url
            self._environment = environment(
                ports, postgres_url, redis_url, self._folder.code_secret()
            )
            self._once("migrate")
            services = self._services()
            started.callback(lambda: stop_all(services.values()))
            for service in services.values():
                service.log.unlink(missing_ok=True)  # a log tells of one run
                service.start()
            watched |= services
            logs = {name: service.log for name, service in services.items()}
            follower = Follower(logs, everything=self._verbose)
            started.callback(follower.close)
            wait_ready(
                {
                    ports.writer_admin: services["writer"],
                    ports.relay_admin: services["relay"],
                    ports.redirector_admin: services["redirector"],
                },
                self._stop.is_set,
            )
            if self._stop.is_set():
                return
            facts = Facts(
                writer_url=url(ports.writer),
                redirector_url=url(ports.redirector),
                writer_admin_url=url(ports.writer_admin),
                redirector_admin_url=url(ports.redirector_admin),
                relay_admin_url=url(ports.relay_admin),
                postgres_url=postgres_url,
                redis_url=redis_url,
                api_key=self._api_key(url(ports.writer)),
                pids={name: part.pid for name, part in watched.items()},
            )
            started.callback(self._folder.withdraw)  # the first thing to go
            self._folder.publish(facts)
            _announce(facts, self._folder, time.monotonic() - began)
            while not self._stop.wait(0.2):
                follower.show()
                for name, part in watched.items():
                    if not part.running:
                        raise ServerError(f"{name} ended by itself:\n{part.tail()}")
            print("\nstopping", flush=True)

    def _servers(self, ports: Ports | None) -> dict[str, EmbeddedPostgres | EmbeddedValkey]:
        path = self._folder.path
        return {
            "postgres": EmbeddedPostgres(path / "postgres", port=ports.postgres if ports else None),
            "redis": EmbeddedValkey(path / "valkey", port=ports.redis if ports else None),
        }

    def _services(self) -> dict[str, Child]:
        return {
            name: Child(name, command(*argv), self._folder.log, environment=self._environment)
            for name, argv in SERVICES.items()
        }

    def _once(self, *arguments: str) -> str:
        """Run `shortlinks-writer` with `arguments` to its end and return what it printed.

        Raises ServerError with what it said when it fails.
        """
        process = subprocess.Popen(  # noqa: S603  # our own program
            command("shortlinks-writer", *arguments),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while True:
            try:
                out, err = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    process.terminate()
        if process.returncode != 0:
            raise ServerError(f"shortlinks-writer {arguments[0]} failed:\n{err.strip()}")
        return out

    def _api_key(self, writer: str) -> str:
        key = self._folder.api_key()
        # The database may be another one than last time, or the key revoked.
        if key is None or not _is_accepted(key, writer):
            key = self._once("create-key", "--name", "dev").split()[-1]
            self._folder.keep_api_key(key)
        return key


def _is_accepted(key: str, writer: str) -> bool:
    answer = httpx.get(
        f"{writer}/api/v1/links",
        params={"limit": 1},
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
        trust_env=False,
    )
    return answer.status_code != httpx.codes.UNAUTHORIZED


def _announce(facts: Facts, folder: StateFolder, seconds: float) -> None:
    create = (
        f"curl -s -X POST {facts.writer_url}/api/v1/links "
        f"-H 'Authorization: Bearer {facts.api_key}' "
        """-H 'Content-Type: application/json' -d '{"target":"https://example.com/"}'"""
    )
    print(
        f"""
Shortlinks is ready after {seconds:.1f} s.

  API          {facts.writer_url}/api/v1   (OpenAPI: {facts.writer_url}/api/openapi.json)
  short links  {facts.redirector_url}
  API key      {facts.api_key}
  logs         {folder.log}

Create a link:

  {create}

Ctrl-C stops everything; the links stay in {folder.path}.
""",
        flush=True,
    )
