"""A running writer, and `shortctl` with its address."""

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from harness.waiting import until
from typer.testing import CliRunner

from shortctl.embedded.ports import free_port
from shortctl.main import app

WRITER = Path(sys.executable).with_name("shortlinks-writer")


@dataclass
class Writer:
    url: str
    key: str
    postgres_url: str
    redis_url: str


@pytest.fixture
def shortctl(monkeypatch, tmp_path):
    """Run `shortctl` with arguments in an empty folder; returns click's result."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("SHORTCTL_") or (
            name.startswith("SHORTLINKS_") and "_TEST_" not in name
        ):
            monkeypatch.delenv(name)
    # The loader would refuse these variables of the tests as unknown settings.
    for name in ("SHORTLINKS_TEST_SERVERS", "SHORTLINKS_TEST_SEED"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, stdin=None):
        return CliRunner().invoke(app, [str(word) for word in arguments], input=stdin)

    return run


@pytest.fixture
def admin(shortctl, monkeypatch, database_url, redis_url, redis_prefix):
    """`shortctl` with the addresses of PostgreSQL and Redis."""
    monkeypatch.setenv("SHORTLINKS_POSTGRES_URL", database_url)
    monkeypatch.setenv("SHORTLINKS_REDIS_URL", redis_url)
    monkeypatch.setenv("SHORTLINKS_REDIS_PREFIX", redis_prefix)
    return shortctl


@pytest.fixture
def writer(request, admin, monkeypatch, database_url, redis_url, tmp_path):
    """A running writer, with the settings of the test; `shortctl` has its address and a key."""
    made = admin("keys", "create", "--name", "test")
    assert made.exit_code == 0, made.output
    port, admin_port = free_port(), free_port()
    settings = {
        "WRITER_HOST": "127.0.0.1",
        "WRITER_PORT": port,
        "WRITER_ADMIN_PORT": admin_port,
        "CODE_SECRET": secrets.token_hex(16),
        "DEFAULT_DOMAIN": "go.example",
        "DRAIN_DELAY_MS": 0,
    } | getattr(request, "param", {})
    env = os.environ | {f"SHORTLINKS_{name}": str(value) for name, value in settings.items()}
    log = tmp_path / "writer.log"
    with log.open("wb") as out:
        process = subprocess.Popen([WRITER, "serve"], env=env, stdout=out, stderr=out)
    try:

        def ready():
            assert process.poll() is None, log.read_text()
            return _ready(admin_port)

        until(ready, "the writer is ready", details=log.read_text)
        running = Writer(f"http://127.0.0.1:{port}", made.stdout.strip(), database_url, redis_url)
        monkeypatch.setenv("SHORTCTL_URL", running.url)
        monkeypatch.setenv("SHORTCTL_KEY", running.key)
        yield running
    finally:
        process.terminate()
        process.wait(20)


def _ready(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
