"""The lifecycle of a process: start, serve until a signal, drain, flush, end.

After SIGTERM or SIGINT, the process is no longer ready but serves for `drain_delay_ms`, so that load
balancers notice. Then it stops accepting connections, still answers the next request of each open
connection (for at most LAST_REQUESTS_S), finishes the requests in flight (both for at most
`drain_timeout_ms`), flushes, and exits with code 0. A second signal skips both waits for new requests.
If a background task fails, the process drains in the same way and exits with code 1.

Both waits count only time in which the event loop ran. Otherwise a stall of the machine could use up a
wait, and clients that stalled as well would find their connections closed without having been asked to
close them.
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
from shortcore.runtime.loop_time import run_for
from shortcore.runtime.server import Server
from shortcore.tasks import end_tasks

log = structlog.stdlib.get_logger(__name__)

LAST_REQUESTS_S = 1.0
"""Maximum time for the next request on an open connection after the end of new connections, in seconds.

The time is never longer than the drain delay: who sets none has no clients to wait for. A connection
that was accepted last, or whose client stalled, may have its request still on the way.
"""

STALL_S = 5.0
"""Maximum time by which stalls of the event loop extend the drain delay, in seconds.

The termination grace period of the chart's pods has 10 seconds more than the sum of their waits.
"""


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
    signal cancels them, since they may wait for a server that is down. `stopping` is called after the
    last requests have arrived: it answers requests that would wait longer than `drain_timeout_ms`. The steps of `flush` run at the end, each even if one before it failed.

    Raises TaskFailed at the end if a task of `background` failed.
    """
    signalled = asyncio.Event()
    skip_waits = asyncio.Event()

    def on_signal() -> None:
        (skip_waits if signalled.is_set() else signalled).set()

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
            await _drain(
                public,
                delay_s=drain_delay_ms / 1000,
                timeout_s=drain_timeout_ms / 1000,
                skip=skip_waits,
                stopping=stopping,
            )
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


async def _drain(
    public: Server | None,
    *,
    delay_s: float,
    timeout_s: float,
    skip: asyncio.Event,
    stopping: Callable[[], None],
) -> None:
    """Serve for `delay_s`, then finish what clients have begun."""
    await run_for(delay_s, stall_s=STALL_S, over=skip.is_set)
    if public is None:
        stopping()
        return
    await public.stop_accepting()
    waited = await run_for(
        min(LAST_REQUESTS_S, delay_s, timeout_s),
        stall_s=LAST_REQUESTS_S,
        over=lambda: skip.is_set() or not public.connected,
    )
    stopping()
    await public.stop(timeout_s - waited)


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
