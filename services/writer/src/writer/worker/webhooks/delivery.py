"""The loops that deliver webhooks: find expired links, dispatch events, send messages, purge.

A message is claimed by a lease, sent outside of any transaction, and settled. A worker that is killed
meanwhile leaves a lease that runs out, and another worker sends the same message again, with the same
id. So every message arrives at least once, or is dead after a day.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence

import structlog

from shortcore.clock import Now
from shortcore.runtime.background import Background
from shortcore.runtime.metrics import FromMemory
from shortcore.runtime.stopping import Stopping
from shortcore.storage.postgres import Connection, Postgres
from shortcore.tasks import end_tasks
from writer.worker.webhooks import queue
from writer.worker.webhooks.messages import Messages, headers_of, message_id
from writer.worker.webhooks.queue import Claimed, Settlement
from writer.worker.webhooks.schedule import PAUSES_S, next_pause
from writer.worker.webhooks.sender import Outcome, Sender

log = structlog.stdlib.get_logger(__name__)

PLACES = 4
"""Messages that one process sends to one webhook at a time. No webhook waits for another one."""

_EVENTS_AT_ONCE = 200
_CONNECTIONS = 2
"""Connections to PostgreSQL that webhooks use, so that counting clicks always has others."""

_EXPIRY_INTERVAL_S = 2.0
_PURGE_INTERVAL_S = 60.0
_PURGED_AT_ONCE = 500
_LAG_INTERVAL_S = 10.0
_STOP_TIMEOUT_S = 5.0
_GONE = "The receiver answered with the status 410 (Gone)."


class WebhookDelivery:
    """Delivers webhooks between the start of its loops and the end of `stopping`."""

    def __init__(
        self,
        postgres: Postgres,
        sender: Sender,
        messages: Messages,
        background: Background,
        stopping: Stopping,
        now: Now,
        *,
        attempt_timeout_s: float,
        poll_s: float,
        retention_s: float,
        postgres_timeout_ms: int,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.attempts: Counter[str] = Counter(delivered=0, failed=0, dead=0)
        self.events = 0
        self.lag_s: dict[int, float] = {}
        self._postgres = postgres
        self._sender = sender
        self._messages = messages
        self._background = background
        self._stopping = stopping
        self._now = now
        # A lease is longer than an attempt, so that no other worker sends the message meanwhile.
        self._lease_s = 2 * attempt_timeout_s
        self._poll_s = poll_s
        self._retention_s = retention_s
        self._timeout_ms = postgres_timeout_ms
        self._pauses_s = pauses_s
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._busy: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._place_free = asyncio.Event()

    def loops(self) -> dict[str, Coroutine[object, object, None]]:
        """Return the loops to run, by their name."""
        return {
            "webhook delivery": self._deliver(),
            "webhook expiries": self._expire(),
            "webhook purge": self._purge(),
            "webhook lag": self._measure(),
        }

    def export(self, source: FromMemory) -> None:
        """Add the metrics to `/metrics`."""
        source.counter(
            "shortlinks_webhook_events",
            "Events dispatched to webhooks.",
            lambda: self.events,
        )
        source.counter(
            "shortlinks_webhook_attempts",
            "Attempts to deliver an event: delivered, failed (it is tried again), or dead (it is not).",
            lambda: dict(self.attempts),
            "result",
        )
        source.gauge(
            "shortlinks_webhook_lag_seconds",
            "Time since the oldest attempt of a webhook has been due.",
            lambda: dict(self.lag_s),
            "webhook",
        )

    async def _deliver(self) -> None:
        try:
            while not self._stopping:
                self._place_free.clear()
                events = await self._stopping.retry(self.dispatch)
                started = await self._stopping.retry(self._start)
                if events < _EVENTS_AT_ONCE and not started:
                    await self._pause()
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_STOP_TIMEOUT_S)
            await end_tasks(list(self._tasks))
            await self._sender.close()

    async def _pause(self) -> None:
        # Or until a message was sent: its webhook may have more.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.or_first(self._place_free.wait()), self._poll_s)

    async def dispatch(self) -> int:
        """Dispatch some new events; returns how many."""
        async with self._connection() as connection:
            events = await queue.dispatch(connection, _EVENTS_AT_ONCE)
        self.events += events
        return events

    async def _start(self) -> int:
        async with self._connection() as connection:
            claimed = await queue.claim(connection, self._busy, PLACES, self._lease_s)
        for each in claimed:
            self._busy[each.webhook_id] += 1
            task = self._background.spawn("webhook attempt", self._attempt(each))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claimed)

    async def _attempt(self, claimed: Claimed) -> None:
        try:
            outcome = await self._send(claimed)
            settlement = self._settlement(claimed, outcome)
            result = "failed" if settlement.status == "pending" else settlement.status
            self.attempts[result] += 1
            if result != "delivered":
                log.warning(
                    "webhook attempt failed",
                    webhook=claimed.webhook_id,
                    event_id=claimed.event.id,
                    attempt=claimed.attempt,
                    result=result,
                    reason=settlement.error,
                )

            async def settle() -> None:
                async with self._connection() as connection, connection.transaction():
                    await queue.settle(connection, claimed, settlement)
                    if outcome.gone:
                        await queue.disable(connection, claimed.webhook_id, _GONE)

            await self._stopping.retry(settle)
        finally:
            self._busy[claimed.webhook_id] -= 1
            if not self._busy[claimed.webhook_id]:
                del self._busy[claimed.webhook_id]
            self._place_free.set()

    async def _send(self, claimed: Claimed) -> Outcome:
        event = claimed.event
        body = self._messages.body(event)
        id_ = message_id(event.id, event.created_at)
        headers = headers_of(id_, self._now(), body, claimed.secrets)
        return await self._sender.send(claimed.url, headers, body)

    def _settlement(self, claimed: Claimed, outcome: Outcome) -> Settlement:
        if outcome.delivered:
            return Settlement("delivered", outcome.status, None)
        pause = next_pause(claimed.attempt, outcome.retry_after_s, self._pauses_s)
        if pause is None or outcome.gone:
            return Settlement("dead", outcome.status, outcome.error)
        return Settlement("pending", outcome.status, outcome.error, pause)

    async def _expire(self) -> None:
        while not self._stopping:
            if not await self._stopping.retry(self.find_expired):
                await self._stopping.pause(_EXPIRY_INTERVAL_S)

    async def find_expired(self) -> int:
        """Add events of some expired links; returns 1 if more may wait, else 0."""
        async with self._connection() as connection, connection.transaction():
            return int(await queue.add_expired(connection))

    async def _purge(self) -> None:
        while not self._stopping:
            if await self._stopping.retry(self.purge) < _PURGED_AT_ONCE:
                await self._stopping.pause(_PURGE_INTERVAL_S)

    async def purge(self) -> int:
        """Delete some old events with their deliveries; returns the number of events."""
        async with self._connection() as connection:
            return await queue.purge(connection, self._retention_s, _PURGED_AT_ONCE)

    async def _measure(self) -> None:
        while not self._stopping:
            await self._stopping.retry(self.measure)
            await self._stopping.pause(_LAG_INTERVAL_S)

    async def measure(self) -> None:
        """Read the lag of each webhook for `/metrics`."""
        async with self._connection() as connection:
            self.lag_s = await queue.lag(connection)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._connections, self._postgres.connection(self._timeout_ms) as connection:
            yield connection
