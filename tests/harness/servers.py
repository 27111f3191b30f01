"""PostgreSQL and Valkey for the tests: in containers where at hand, else from the wheels."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest
import redis
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from harness.databases import fetch
from harness.waiting import until
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey

POSTGRES_IMAGE = "postgres:18"
VALKEY_IMAGE = "valkey/valkey:9"
# Nothing here has to survive a crash of the machine; tests about durability start their own.
FAST = {
    "autovacuum": "off",  # it would come in the middle of some test, and change statistics
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
}
KINDS = ("embedded", "docker")


class Server(Protocol):
    @property
    def url(self) -> str: ...


def choose(forced: str | None) -> str:
    """Return "docker" or "embedded": the one that is forced, else what is at hand."""
    if forced:
        if forced not in KINDS:
            raise pytest.UsageError(f"SHORTLINKS_TEST_SERVERS is {forced!r}, not one of {KINDS}")
        return forced
    tool = shutil.which("docker")
    if tool is None:
        return "embedded"
    # It answers for the engine and both images at once; it looks, and never pulls.
    command = [tool, "image", "inspect", "--format", "{{.Id}}", POSTGRES_IMAGE, VALKEY_IMAGE]
    try:
        found = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return "embedded"
    return "docker" if found.returncode == 0 else "embedded"


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a temporary folder that a server run by root as another user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="shortlinks-test-"))
    folder.chmod(0o711)  # pytest's own are closed to others
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres(kind: str) -> Iterator[Server]:
    """Run a PostgreSQL whose durability is switched off."""
    if kind == "docker":
        settings = [word for key, value in FAST.items() for word in ("-c", f"{key}={value}")]
        container = (
            DockerContainer(POSTGRES_IMAGE)
            .with_env("POSTGRES_USER", "shortlinks")
            .with_env("POSTGRES_PASSWORD", "shortlinks")
            .with_command(["postgres", "-c", "max_connections=200", *settings])
        )
        with _running(container, 5432) as address:
            url = f"postgresql://shortlinks:shortlinks@{address}/shortlinks"
            until(
                lambda: fetch(url, "SELECT 1"),
                "PostgreSQL answers",
                60,
                retry=(asyncpg.PostgresError, OSError),
            )
            yield Container(url)
        return
    with open_folder() as folder:
        server = EmbeddedPostgres(folder / "postgres", options=FAST)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def valkey(kind: str) -> Iterator[Server]:
    """Run a Valkey."""
    if kind == "docker":
        # Reached through a published port, which protected mode takes for a stranger's.
        command = ["valkey-server", "--protected-mode", "no", "--save", "", "--appendonly", "no"]
        with _running(DockerContainer(VALKEY_IMAGE).with_command(command), 6379) as address:
            url = f"redis://{address}/0"
            until(lambda: flush(url) is None, "Valkey answers", 60, retry=(redis.ConnectionError,))
            yield Container(url)
        return
    with open_folder() as folder:
        server = EmbeddedValkey(folder / "valkey")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def flush(url: str) -> None:
    """Empty the server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()


@dataclass(frozen=True)
class Container:
    url: str


@contextmanager
def _running(container: DockerContainer, port: int) -> Iterator[str]:
    # Its reaper is one more image, which would be pulled.
    testcontainers_config.ryuk_disabled = True
    with container.with_exposed_ports(port):
        yield f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
