"""The worker: counts the clicks of its streams until it stops.

Any number of workers may run. They share the click streams evenly.
"""

import asyncio
import secrets
import socket
from datetime import UTC, date, datetime

import asyncpg
import structlog

from shortcore.cache.keys import CacheKeys
from shortcore.clock import unix_ms
from shortcore.errors import DatabaseUnavailable
from shortcore.runtime.background import Background
from shortcore.runtime.dynamic_settings import INTERVAL_S, DynamicFile
from shortcore.runtime.stopping import Stopping
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import Client
from shortcore.storage.redis_calls import RedisCalls
from shortcore.tasks import end_tasks
from writer.worker import repository
from writer.worker.counts import Counts
from writer.worker.housekeeping import Housekeeping
from writer.worker.leases import Leases
from writer.worker.stream_counter import StreamCounter
from writer.worker.stream_reader import StreamReader
from writer.worker.webhooks.wiring import make_delivery

log = structlog.stdlib.get_logger(__name__)

APPLICATION = "shortlinks-worker"

MAX_HEARTBEAT_S = 1.0
"""Maximum interval of heartbeats: a stream that a worker released waits for its next one so long."""

CLEAN_INTERVAL_S = 3600.0
"""Interval at which old marks are deleted."""

LEAVE_S = 2.0
"""Timeout of giving up the leases at the end. Otherwise they expire."""


class Worker:
    """The loops of a worker, between `start` and `stop`."""

    def __init__(
        self, postgres: Postgres, client: Client, redis: RedisCalls, settings: WorkerSettings
    ) -> None:
        self.name = f"{socket.gethostname()[:64]}/{secrets.token_hex(6)}"
        self.dynamic = DynamicFile(settings, lambda _: None)  # it sets the log level itself
        self.background = Background()
        self.stopping = Stopping()
        self.counts = Counts()
        self.housekeeping = Housekeeping(postgres, self.stopping, settings, _today)
        self._postgres = postgres
        self._client = client
        self._redis = redis
        self._settings = settings
        self._keys = CacheKeys(settings.redis_prefix)
        self._leases = Leases(
            self.name, partitions=settings.clicks_partitions, lease_s=settings.worker_lease_s
        )
        self._counters: dict[int, tuple[StreamCounter, asyncio.Task[None]]] = {}
        self.webhooks = (
            make_delivery(settings, postgres, self.background, self.stopping)
            if settings.webhooks_enabled
            else None
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def streams(self) -> int:
        """The number of streams that this worker reads."""
        return len(self._counters)

    async def start(self) -> None:
        """Start every loop."""
        loops = {
            "leases": self._hold_leases(),
            "cleaning": self._clean(),
            "housekeeping": self.housekeeping.run(),
            "dynamic settings": self._watch_settings(),
        }
        if self.webhooks is not None:
            loops |= self.webhooks.loops()
        self._tasks = [self.background.run_forever(name, loop) for name, loop in loops.items()]

    async def stop(self) -> None:
        """Write the clicks in memory, release the streams, then end every loop.

        Takes `drain_timeout_ms` at most. What is not written by then, another worker counts.
        """
        self.background.ending = True
        self.stopping.set()
        counting = [task for _, task in self._counters.values()]
        tasks = [*counting, *self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_timeout_ms / 1000)
        await end_tasks(tasks)
        for task in counting:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("counting failed", task=task.get_name(), exc_info=error)
        try:
            async with self._postgres.connection(round(LEAVE_S * 1000)) as connection:
                await self._leases.leave(connection)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            log.warning("leases not released; they will expire", reason=str(error))

    async def _hold_leases(self) -> None:
        interval_s = min(MAX_HEARTBEAT_S, self._settings.worker_lease_s / 4)
        while not self.stopping:
            await self.stopping.retry(self._renew_leases)
            await self.stopping.pause(interval_s)

    async def _renew_leases(self) -> None:
        ended = self._ended()
        async with self._postgres.connection(
            self._settings.postgres_write_timeout_ms
        ) as connection:
            if ended:
                await self._leases.release(connection, ended)
            share = await self._leases.renew(connection)
        if self.stopping:
            return
        wanted = share.owned - share.excess
        for stream, (counter, _) in self._counters.items():
            counter.share = max(1, len(wanted))
            if stream not in wanted:
                counter.release()
        for stream in wanted - self._counters.keys():
            self._count(stream, len(wanted))

    def _ended(self) -> list[int]:
        """Forget the counters that have ended, and return their streams."""
        ended = [stream for stream, (_, task) in self._counters.items() if task.done()]
        for stream in ended:
            _, task = self._counters.pop(stream)
            task.result()  # raises what ended it, which ends the process
            log.info("stream released", stream=stream)
        return ended

    def _count(self, stream: int, share: int) -> None:
        counter = StreamCounter(
            stream,
            StreamReader(self._client, self._redis, self._keys.clicks(stream)),
            self._postgres,
            self.counts,
            self.stopping,
            self._settings,
            unix_ms,
        )
        counter.share = share
        task = asyncio.create_task(counter.run(), name=f"clicks {stream}")
        self._counters[stream] = counter, task
        log.info("stream taken", stream=stream)

    async def _clean(self) -> None:
        while not self.stopping:
            await self.stopping.retry(self._delete_old_marks)
            await self.stopping.pause(CLEAN_INTERVAL_S)

    async def _delete_old_marks(self) -> None:
        async with self._postgres.connection(
            self._settings.postgres_write_timeout_ms
        ) as connection:
            await repository.delete_old_marks(connection)

    async def _watch_settings(self) -> None:
        while not self.stopping:
            self.dynamic.read()
            await self.stopping.pause(INTERVAL_S)


def _today() -> date:
    return datetime.now(UTC).date()
