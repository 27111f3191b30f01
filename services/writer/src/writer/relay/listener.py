"""Listens for the notifications of writers, on a separate database connection."""

import asyncio
from collections.abc import Callable

import asyncpg
import structlog

from shortcore.runtime.stopping import MAX_BACKOFF_S, MIN_BACKOFF_S, Stopping
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS
from writer.relay.outbox import CHANNEL

log = structlog.stdlib.get_logger(__name__)

CHECK_INTERVAL_S = 10.0
"""Interval at which the connection is checked."""

TIMEOUT_S = 5.0
"""Timeout of connecting, of LISTEN, and of each check."""


async def listen(
    url: str, application: str, stopping: Stopping, on_notify: Callable[[], None]
) -> None:
    """Call `on_notify` at each notification, until the relay stops.

    Reconnects after every failure. A failure delays deliveries by `relay_poll_ms` at most.
    """
    while not stopping:
        try:
            connection = await asyncpg.connect(
                url, timeout=TIMEOUT_S, server_settings={"application_name": application}
            )
        except POSTGRES_RETRYABLE_ERRORS as error:
            log.debug("cannot listen for notifications", reason=str(error))
            await stopping.pause(MAX_BACKOFF_S)
            continue
        try:
            await _listen_on(connection, stopping, on_notify)
        except POSTGRES_RETRYABLE_ERRORS as error:
            log.debug("listening for notifications ended", reason=str(error))
            await stopping.pause(MIN_BACKOFF_S)
        finally:
            connection.terminate()


async def _listen_on(
    connection: "asyncpg.Connection[asyncpg.Record]",
    stopping: Stopping,
    on_notify: Callable[[], None],
) -> None:
    lost = asyncio.Event()
    connection.add_termination_listener(lambda *_: lost.set())
    async with asyncio.timeout(TIMEOUT_S):
        await connection.add_listener(CHANNEL, lambda *_: on_notify())
    while not (lost.is_set() or stopping):
        await stopping.or_first(lost.wait(), asyncio.sleep(CHECK_INTERVAL_S))
        # A connection that only listens does not notice that its peer has crashed or that a
        # firewall dropped it. Without this query it would never receive a notification again.
        async with asyncio.timeout(TIMEOUT_S):
            await connection.execute("SELECT 1")
