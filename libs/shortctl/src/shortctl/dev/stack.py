"""A local stack: starts all servers and services, watches them, and stops them in reverse order."""

import subprocess
import threading
import time
from contextlib import ExitStack

import httpx

from shortctl.dev.log_follower import LogFollower
from shortctl.dev.ports import Ports, url
from shortctl.dev.services import command, environment, wait_ready
from shortctl.dev.state import StateFolder
from shortctl.embedded import Child, EmbeddedPostgres, EmbeddedValkey, ServerError, stop_all
from shortctl.running_stack import RunningStack

SERVICES = {
    "writer": ("shortlinks-writer", "serve"),
    "relay": ("shortlinks-writer", "relay"),
    "worker": ("shortlinks-writer", "worker"),
    "redirector": ("shortlinks-redirector", "serve"),
}
Part = Child | EmbeddedPostgres | EmbeddedValkey


class Stack:
    """One run of `shortctl dev`, until `stop` is set or a part ends."""

    def __init__(self, folder: StateFolder, stop: threading.Event, *, verbose: bool) -> None:
        self._folder = folder
        self._stop = stop
        self._verbose = verbose
        self._environment: dict[str, str] = {}

    def run(self, port_base: int | None, postgres_url: str | None, redis_url: str | None) -> None:
        """Start all parts, print their addresses, and return when `stop` is set.

        Raises ServerError if a part does not start or ends unexpectedly.
        """
        began = time.monotonic()
        for name, part in (self._services() | self._servers(None)).items():
            if part.stop_left_over():
                print(f"stopped the {name} that an earlier run left running", flush=True)
        ports = Ports.choose(port_base, lambda text: print(text, flush=True))
        servers = self._servers(ports)
        external = {"postgres": postgres_url, "redis": redis_url}
        parts: dict[str, Part] = {n: s for n, s in servers.items() if external[n] is None}
        with ExitStack() as started:
            for server in parts.values():
                started.callback(server.stop)
                server.start()
            postgres_url = postgres_url or servers["postgres"].url
            redis_url = redis_url or servers["redis"].url
            self._environment = environment(
                ports, postgres_url, redis_url, self._folder.code_secret()
            )
            self._run_writer("migrate")
            services = self._services()
            started.callback(lambda: stop_all(services.values()))
            for service in services.values():
                service.log.unlink(missing_ok=True)  # a log covers one run
                service.start()
            parts |= services
            logs = {name: service.log for name, service in services.items()}
            follower = LogFollower(logs, everything=self._verbose)
            started.callback(follower.close)
            wait_ready(
                {
                    ports.writer_admin: services["writer"],
                    ports.relay_admin: services["relay"],
                    ports.worker_admin: services["worker"],
                    ports.redirector_admin: services["redirector"],
                },
                self._stop.is_set,
            )
            if self._stop.is_set():
                return
            running = RunningStack(
                writer_url=url(ports.writer),
                redirector_url=url(ports.redirector),
                writer_admin_url=url(ports.writer_admin),
                redirector_admin_url=url(ports.redirector_admin),
                relay_admin_url=url(ports.relay_admin),
                worker_admin_url=url(ports.worker_admin),
                postgres_url=postgres_url,
                redis_url=redis_url,
                api_key=self._api_key(url(ports.writer)),
                pids={name: part.pid for name, part in parts.items()},
            )
            started.callback(self._folder.withdraw)  # runs first, while the parts still run
            self._folder.publish(running)
            _print_welcome(running, self._folder, time.monotonic() - began)
            while not self._stop.wait(0.2):
                follower.show()
                for name, part in parts.items():
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

    def _run_writer(self, *arguments: str) -> str:
        """Run `shortlinks-writer` with `arguments`, wait for its end, and return its output.

        Raises ServerError with its error output if it fails.
        """
        process = subprocess.Popen(  # noqa: S603  # our program
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
        # This may be another database than that of the last run, or the key may be revoked.
        if key is None or not _is_accepted(key, writer):
            key = self._run_writer("create-key", "--name", "dev").split()[-1]
            self._folder.save_api_key(key)
        return key


def _is_accepted(key: str, writer: str) -> bool:
    response = httpx.get(
        f"{writer}/api/v1/links",
        params={"limit": 1},
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
        trust_env=False,
    )
    return response.status_code != httpx.codes.UNAUTHORIZED


def _print_welcome(running: RunningStack, folder: StateFolder, seconds: float) -> None:
    create = (
        f"curl -s -X POST {running.writer_url}/api/v1/links "
        f"-H 'Authorization: Bearer {running.api_key}' "
        """-H 'Content-Type: application/json' -d '{"target":"https://example.com/"}'"""
    )
    print(
        f"""
Shortlinks is ready after {seconds:.1f} s.

  API          {running.writer_url}/api/v1   (OpenAPI: {running.writer_url}/api/openapi.json)
  short links  {running.redirector_url}
  API key      {running.api_key}
  logs         {folder.log}

Create a link:

  {create}

Ctrl-C stops everything. The links stay in {folder.path}.
""",
        flush=True,
    )
