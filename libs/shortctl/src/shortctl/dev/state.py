"""The state folder of `shortctl dev`: data, logs and secrets that later runs use again.

.state/
  lock            locked during a run; holds the pid
  dev.json        exists while the stack is ready: addresses for scripts and tests (0600)
  api_key         created by the first run (0600)
  code_secret     key of the code permutation, on which the links depend (0600)
  log/            <service>.log, <service>.pid
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

from shortctl.running_stack import DEV_FILE, RunningStack


class StateInUseError(Exception):
    """Another run uses the folder; the message names its pid."""


class StateFolder:
    """The files of a state folder. `lock` creates the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "log"
        self._dev_file = self.path / DEV_FILE.name

    @contextmanager
    def lock(self, *, timeout_s: float) -> Iterator[None]:
        """Lock the folder for this process, and remove the `dev.json` of a killed run.

        Waits up to `timeout_s` for another run to end, then raises StateInUseError.
        """
        # Servers that root runs as another user must pass through the folder, but not list it.
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.log.mkdir(mode=0o700, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            deadline = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        file.seek(0)
                        raise StateInUseError(
                            f"{self.path} is in use by another run (pid {file.read().strip()}): "
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
        """Return the file with the key of the code permutation; the first call creates it."""
        path = self.path / "code_secret"
        if not path.exists():
            self._write(path, secrets.token_urlsafe(32))
        return path

    def api_key(self) -> str | None:
        """Return the API key that `save_api_key` saved, or None."""
        try:
            return (self.path / "api_key").read_text().strip()
        except FileNotFoundError:
            return None

    def save_api_key(self, key: str) -> None:
        """Save an API key for later runs."""
        self._write(self.path / "api_key", key)

    def publish(self, stack: RunningStack) -> None:
        """Write dev.json, once the stack is ready."""
        text = msgspec.json.format(msgspec.json.encode(stack), indent=2).decode()
        self._write(self._dev_file, text)

    def withdraw(self) -> None:
        """Remove dev.json."""
        self._dev_file.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        # Written under another name and renamed: readers find a complete file, and other users
        # cannot read it at any moment.
        staging = path.with_suffix(".new")
        staging.unlink(missing_ok=True)
        with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
