"""Runs the retention of statistics once an hour, while the worker counts."""

import contextlib
from collections.abc import Callable
from datetime import date, timedelta

import asyncpg
import structlog

from shortcore.runtime.stopping import Stopping
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.postgres import Connection, Postgres
from writer.worker import retention

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 3600.0

AHEAD = timedelta(days=31)
"""Partitions exist for so long before their month begins."""

ORPHAN_STEPS = 10
"""Steps of retention.delete_orphans per run; the next run goes on after the last one."""

DROP_ATTEMPTS = 10
DROP_PAUSE_S = 2.0
"""While statistics are read without a pause, a partition is dropped at a later attempt."""


class Housekeeping:
    """Creates partitions ahead, drops old ones, and deletes totals of purged links."""

    def __init__(
        self,
        postgres: Postgres,
        stopping: Stopping,
        settings: WorkerSettings,
        today: Callable[[], date],
    ) -> None:
        self.partitions_created = 0
        self.partitions_dropped = 0
        self.totals_deleted = 0
        self._postgres = postgres
        self._stopping = stopping
        self._settings = settings
        self._today = today
        self._last_link = -1

    async def run(self) -> None:
        """Run once now, and then every hour, until the process stops."""
        while not self._stopping:
            for step in (self.create_partitions, self.drop_partitions, self.delete_orphans):
                await self._stopping.retry(step)
            await self._stopping.pause(INTERVAL_S)

    async def create_partitions(self) -> int:
        """Create the partitions of this month and the next."""
        today = self._today()
        async with self._connection() as connection:
            created = await retention.ensure_partitions(connection, today, today + AHEAD)
        self.partitions_created += created
        return created

    async def drop_partitions(self) -> int:
        """Drop the partitions that are older than `stats_retention_days`."""
        dropped = attempts = 0
        while attempts < DROP_ATTEMPTS and not self._stopping:
            try:
                async with self._connection() as connection:
                    name = await retention.drop_oldest(
                        connection, self._settings.stats_retention_days, self._today()
                    )
            except asyncpg.LockNotAvailableError:
                attempts += 1
                await self._stopping.pause(DROP_PAUSE_S)
                continue
            if name is None:
                return dropped
            log.info("old statistics dropped", partition=name)
            self.partitions_dropped += 1
            dropped += 1
        log.warning("old statistics are in use; they are dropped later")
        return dropped

    async def delete_orphans(self) -> int:
        """Delete the totals of purged links, in some of all totals."""
        deleted = 0
        for _ in range(ORPHAN_STEPS):
            async with self._connection() as connection:
                count, last = await retention.delete_orphans(connection, self._last_link)
            deleted += count
            self._last_link = -1 if last is None else last
            if last is None or self._stopping:
                break
        self.totals_deleted += deleted
        return deleted

    def _connection(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self._postgres.connection(self._settings.worker_postgres_timeout_ms)
