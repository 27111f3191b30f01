"""A server on one port: a bound socket, and uvicorn without its signal handlers."""

import asyncio
import contextlib
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


class Server(Protocol):
    """A server on one port."""

    async def start(self) -> "asyncio.Task[None]":
        """Accept connections, and return the task that serves them.

        Raises OSError if the port is in use.
        """

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting connections, then finish the requests in flight within `timeout_s`."""


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
        self._server = _ServerWithoutSignals(
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

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting connections; cancel the requests that take longer than `timeout_s`."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self._server.should_exit = True
        await self._task


class _ServerWithoutSignals(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # only shortcore.runtime.drain handles signals


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
