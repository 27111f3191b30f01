"""The folder that `shortctl dev` keeps between runs: data, logs, secrets, and who runs now.

.state/
  lock            held while a run lives
  dev.json        while ready: where everything is (0600), for scripts and tests
  api_key         of the first run (0600)
  code_secret     key of the code permutation (0600): links depend on it
  log/            <part>.log, <part>.pid
  postgres/ valkey/
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec


class StateInUseError(Exception):
    """Another run holds the folder; the message names its pid."""


class Facts(msgspec.Struct, frozen=True):
    """What dev.json tells: URLs, the API key, and the pid of each part that we started."""

    writer_url: str
    redirector_url: str
    writer_admin_url: str
    redirector_admin_url: str
    relay_admin_url: str
    postgres_url: str
    redis_url: str
    api_key: str
    pids: dict[str, int]


class StateFolder:
    """The folder's files by name. It is made when it is first used."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "log"

    @contextmanager
    def lock(self, *, wait_s: float) -> Iterator[None]:
        """Hold the folder for this process, and tidy up what a killed run left of it.

        A run that is about to end is waited for. Raises StateInUseError after `wait_s`.
        """
        # Others may pass through, as the servers of root are other users, but not look around.
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.log.mkdir(mode=0o700, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            deadline = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        file.seek(0)
                        raise StateInUseError(
                            f"{self.path} is used by another run (pid {file.read().strip()}): "
                            "stop it, or choose another folder with --state"
                        ) from None
                    time.sleep(0.1)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self.withdraw()
            try:
                yield
            finally:
                self.withdraw()

    def code_secret(self) -> Path:
        """Return the file with the key of the code permutation, made when there is none."""
        path = self.path / "code_secret"
        if not path.exists():
            self._write(path, secrets.token_urlsafe(32))
        return path

    def api_key(self) -> str | None:
        """Return the key that `keep_api_key` kept."""
        try:
            return (self.path / "api_key").read_text().strip()
        except FileNotFoundError:
            return None

    def keep_api_key(self, key: str) -> None:
        """Keep the key for later runs."""
        self._write(self.path / "api_key", key)

    def publish(self, facts: Facts) -> None:
        """Write dev.json: from now on scripts may rely on it."""
        text = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()
        self._write(self.path / "dev.json", text)

    def withdraw(self) -> None:
        """Remove dev.json."""
        (self.path / "dev.json").unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        # Whole or not at all, and never readable by others, not for a moment.
        staging = path.with_suffix(".new")
        staging.unlink(missing_ok=True)
        with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
