"""Reads from the replica, if there is one, and otherwise from the primary."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.postgres import Connection, Postgres

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_STATEMENT_PART = 0.8
"""The part of the timeout after which PostgreSQL cancels a read, so that the reason arrives in time."""


class Reads:
    """Reads that may be outdated by the replication lag.

    Use it only for responses without an ETag. A client that has just received a version must
    never get an older one, so single links and domains are read from the primary.
    """

    def __init__(self, primary: Postgres, replica: Postgres | None, timeout_ms: int) -> None:
        self._primary = primary
        self._replica = replica
        self._timeout_ms = timeout_ms
        self._statement_timeout_ms = int(timeout_ms * _STATEMENT_PART)
        self.fallbacks_total = 0

    def export(self, source: FromMemory) -> None:
        """Add the metrics to `/metrics`."""
        source.counter(
            "shortlinks_replica_fallbacks",
            "Lists read from the primary because the read replica failed.",
            lambda: self.fallbacks_total,
        )

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return the result of `work` on the replica, or on the primary if the replica fails.

        Each server has `timeout_ms`. Raises DatabaseUnavailable, also if the read takes too long,
        and errors of SQL from the primary only.
        """
        if self._replica is not None:
            try:
                return await self._read_from(self._replica, work)
            except _TooSlow:
                raise  # the primary would not be faster
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                # A replica refuses some queries that a primary does not: one that conflicts with
                # replay, or one on a table that a migration has not created there yet.
                self.fallbacks_total += 1
                log.debug("read replica failed; reading from the primary", error=str(error))
        return await self._read_from(self._primary, work)

    async def _read_from(self, server: Postgres, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with server.connection(self._timeout_ms) as connection:
            try:
                async with connection.transaction(readonly=True):
                    # Without it, a server would go on reading for a client that is gone.
                    await connection.execute(
                        f"SET LOCAL statement_timeout = {self._statement_timeout_ms}"
                    )
                    return await work(connection)
            except asyncpg.QueryCanceledError:
                # Caught here: outside, it would count as a failure of the server (the breaker).
                raise _TooSlow(
                    "This list takes too long to read; narrow it, for example by domain, tag or time."
                ) from None


class _TooSlow(DatabaseUnavailable):
    """PostgreSQL answers, but needs too long for this list."""
