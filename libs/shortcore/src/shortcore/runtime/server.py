"""A server on one port: a bound socket, and uvicorn without its signal handlers."""

import asyncio
import contextlib
import select
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import uvicorn

from shortcore.http.connections import Connections
from shortcore.http.joined_writes import JoinedProtocol
from shortcore.http.protocol import BoundedProtocol

MAX_UNSENT = 64 * 1024
"""Bytes of a response that the kernel buffers before it sends them. The rest waits in the process."""

BACKLOG_S = 1.0
"""Maximum time to accept the connections in the backlog before the listening socket is closed."""


class Server(Protocol):
    """A server on one port."""

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""

    async def start(self) -> "asyncio.Task[None]":
        """Accept connections, and return the task that serves them.

        Raises OSError if the port is in use.
        """

    async def stop_accepting(self) -> None:
        """Stop accepting connections, and go on serving those that are open."""

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting connections, then finish the requests in flight within `timeout_s`.

        Connections without a request are closed at once.
        """


class UvicornServer:
    """Serves an ASGI application on one port with uvicorn, in the event loop of the process.

    `protocol` speaks HTTP on each connection. `connections` limits the connections; without it, the
    default limits apply.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        protocol: type[BoundedProtocol] = JoinedProtocol,
        connections: Connections | None = None,
        **options: Any,
    ) -> None:
        self._socket = bind(host, port)
        self.connections = connections or Connections()
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                http=partial(protocol, admission=self.connections),  # type: ignore[arg-type]  # uvicorn only calls it
                **options,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port, also if the kernel chose it (port 0)."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> "asyncio.Task[None]":
        """Accept connections; the returned task ends after `stop`."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise OSError("the server ended during its start")
            await asyncio.sleep(0.005)
        return self._task

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self.connections.count > 0

    async def stop_accepting(self) -> None:
        """Close the listening socket once its backlog is empty, and go on serving the connections.

        The kernel would reset the connections in the backlog, which may have sent a request already.
        """
        if self._task is None:
            return
        loop = asyncio.get_running_loop()
        latest = loop.time() + BACKLOG_S
        await _poll()
        while _readable(self._socket) and loop.time() < latest:
            await _poll()
        for server in self._server.servers:
            server.close()
        await _poll()

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting connections; cancel the requests that take longer than `timeout_s`."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self._server.should_exit = True
        await self._task


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # only shortcore.runtime.drain handles signals

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn closes every connection without a request. After a stall, the timer that led here
        # runs before requests that have arrived are read.
        await _poll()
        await super().shutdown(sockets)


async def _poll() -> None:
    """Let the event loop poll for I/O until what has arrived is read.

    An event loop needs an iteration each to accept a connection, to start reading, and to read.
    """
    for _ in range(3):
        await asyncio.sleep(0)


def _readable(sock: socket.socket) -> bool:
    """Return whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises OSError, with the address, if the address is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit this option. Without it, the kernel would accept megabytes of a
    # response and then, for a slow client, nothing for minutes: it would look as if the client read
    # nothing.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.set_inheritable(True)
    return sock
