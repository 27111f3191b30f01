"""The life of a server process, from its first port to an orderly end, as one written sequence.

SIGTERM or SIGINT → not ready → keep serving for `drain_delay` (load balancers notice) → stop
accepting → finish what is in flight (bounded) → flush → exit 0. A second signal skips what is
left of the waiting. A failed background task does the same, and the process exits with 1.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import structlog
import uvicorn

from shortcore.errors import TaskFailed
from shortcore.http.connections import Connections
from shortcore.http.joined_writes import JoinedProtocol
from shortcore.http.protocol import BoundedProtocol
from shortcore.runtime.background import Background
from shortcore.runtime.health import Health, Phase
from shortcore.runtime.loop_lag import LoopLag
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)


class Server(Protocol):
    """What serves a port."""

    async def start(self) -> "asyncio.Task[None]":
        """Accept connections; returns the task that serves. Raises OSError when the port is taken."""

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting, then finish what is in flight within `timeout_s`."""


class UvicornServer:
    """One ASGI app on one port, run inside our own loop and without uvicorn's signal handlers.

    `protocol` speaks HTTP on each of the `connections`, which have the default limits if not given.
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
        self._server = _Quiet(
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
        """The port in use, also when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> "asyncio.Task[None]":
        """Serve from now on; the task that is returned ends after `stop`."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise OSError("the server ended while it started")
            await asyncio.sleep(0.005)
        return self._task

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting, finish what is in flight within `timeout_s`, then cut it off."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self._server.should_exit = True
        await self._task


MAX_UNSENT = 64 * 1024
"""Bytes of an answer that the kernel holds before it sends them; more wait in the process."""


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # run() below is the one place that handles signals


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; raises OSError that names the address when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. The kernel would take megabytes of an answer and then, for
    # a slow client, nothing for minutes, which looks like a client that does not read.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    sock.set_inheritable(True)
    return sock


def closing(app: Any, health: Health) -> Any:
    """Return the ASGI app that tells clients to close their connections while we drain.

    One that kept its connection would send the next request into a server that is gone.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start" and health.phase is Phase.DRAINING:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, tell)

    return wrapped


async def run(
    *,
    health: Health,
    lag: LoopLag,
    background: Background,
    admin: Server,
    public: Server | None,
    drain_delay_ms: int,
    drain_timeout_ms: int,
    start: Sequence[Callable[[], Awaitable[None]]] = (),
    stopping: Callable[[], None] = lambda: None,
    flush: Sequence[Callable[[], Awaitable[None]]] = (),
) -> None:
    """Serve until a signal comes or a task of `background` fails, then end in order.

    `start` runs after the admin port answers and before the process is ready; a signal cuts it
    short, as it may be waiting for what never comes. `stopping` is called when the public port stops
    accepting: it answers requests that would wait for longer than `drain_timeout_ms`. Each of `flush`
    runs at the end even if one before it failed. `lag` is measured all the time.

    Raises TaskFailed at the end if a task of `background` failed.
    """
    signalled = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if signalled.is_set() else signalled).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    health.add(background.check)
    background.run_forever("event loop lag", lag.watch())
    background.watch("admin port", await admin.start())

    async def start_public() -> None:
        if public is not None:
            background.watch("public port", await public.start())

    try:
        if await _started([*start, start_public], signalled, background.failed):
            health.phase = Phase.READY
            log.info("ready")
            await _first(signalled, background.failed)
            background.ending = True
            health.phase = Phase.DRAINING
            log.info("draining", delay_ms=drain_delay_ms)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), drain_delay_ms / 1000)
            stopping()
            if public is not None:
                await public.stop(drain_timeout_ms / 1000)
    finally:
        background.ending = True
        for step in flush:
            try:
                await step()
            except Exception:  # the next step must run whatever this one did
                log.exception("flush failed", step=getattr(step, "__qualname__", repr(step)))
        await admin.stop(1)
        await background.close()
    if background.failed.is_set():
        raise TaskFailed(background.check().detail)
    log.info("stopped")


async def _started(steps: Sequence[Callable[[], Awaitable[None]]], *cuts: asyncio.Event) -> bool:
    """Run `steps` in order; returns False when one of `cuts` was set before they were done."""

    async def all_steps() -> None:
        for step in steps:
            await step()

    work = asyncio.create_task(all_steps())
    waiting = asyncio.create_task(_first(*cuts))
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        await work  # raises what a step raised
        return True
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return False


async def _first(*events: asyncio.Event) -> None:
    """Return when one of `events` is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(waits)
