"""Where lists are read from: the replica where there is one, else the primary."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.storage.postgres import Connection, Postgres

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class Reads:
    """Reads that may be as old as the replica is late.

    Only answers without an ETag may come from here. Whoever was just given a version must never
    be shown an older one, so single links and domains are read from the primary.
    """

    def __init__(self, primary: Postgres, replica: Postgres | None, timeout_ms: int) -> None:
        self._primary = primary
        self._replica = replica
        self._timeout_ms = timeout_ms
        self.fallbacks_total = 0

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what `work` reads: on the replica, or else once more on the primary.

        Each server has `timeout_ms`; a replica that keeps failing is not asked (its breaker).
        Raises DatabaseUnavailable, and the errors of SQL itself, of the primary only.
        """
        if self._replica is not None:
            try:
                async with self._replica.connection(self._timeout_ms) as connection:
                    return await work(connection)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                # A replica refuses what a primary would not: a query that stands in the way of
                # the replay, a table whose migration has not arrived.
                self.fallbacks_total += 1
                log.debug("the replica did not answer", error=str(error))
        async with self._primary.connection(self._timeout_ms) as connection:
            return await work(connection)
