"""The lifecycle of a process: start, serve until a signal, drain, flush, end.

After SIGTERM or SIGINT, the process is no longer ready but serves for `drain_delay_ms`, so that load
balancers notice. Then it stops accepting connections, finishes the requests in flight (for at most
`drain_timeout_ms`), flushes, and exits with code 0. A second signal skips the rest of the delay. If
a background task fails, the process drains in the same way and exits with code 1.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence

import structlog

from shortcore.errors import TaskFailed
from shortcore.runtime.background import Background
from shortcore.runtime.health import Health, Phase
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.server import Server
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)


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
    """Serve until a signal arrives or a task of `background` fails, then drain.

    The steps of `start` run after the start of the admin port and before the process is ready. A
    signal cancels them, since they may wait for a server that is down. `stopping` is called when the
    public port stops accepting connections: it answers requests that would wait longer than
    `drain_timeout_ms`. The steps of `flush` run at the end, each even if one before it failed.

    Raises TaskFailed at the end if a task of `background` failed.
    """
    signalled = asyncio.Event()
    skip_delay = asyncio.Event()

    def on_signal() -> None:
        (skip_delay if signalled.is_set() else signalled).set()

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
                await asyncio.wait_for(skip_delay.wait(), drain_delay_ms / 1000)
            stopping()
            if public is not None:
                await public.stop(drain_timeout_ms / 1000)
    finally:
        background.ending = True
        for step in flush:
            try:
                await step()
            except Exception:  # a failed step must not prevent the next one
                log.exception("flush failed", step=getattr(step, "__qualname__", repr(step)))
        await admin.stop(1)
        await background.close()
    if background.failed.is_set():
        raise TaskFailed(background.check().detail)
    log.info("stopped")


async def _started(steps: Sequence[Callable[[], Awaitable[None]]], *stops: asyncio.Event) -> bool:
    """Run `steps` in order; cancel them and return False if one of `stops` is set before the end."""

    async def all_steps() -> None:
        for step in steps:
            await step()

    work = asyncio.create_task(all_steps())
    waiting = asyncio.create_task(_first(*stops))
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        await work  # raises the exception of a failed step
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
