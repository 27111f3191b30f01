"""Connections to PostgreSQL: every wait has a deadline, including the wait for a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg

from shortcore.errors import DatabaseUnavailable, ShortlinksError
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.dependency import Dependency
from shortcore.storage.postgres_wire import check_messages

check_messages()  # before the first connection, whoever opens it

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

POSTGRES_UNAVAILABLE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InternalServerError,
    # Raised on a connection whose server has ended it and not closed the socket yet.
    asyncpg.InternalClientError,
)
"""What asyncpg raises while PostgreSQL is down, full, read-only or not set up yet.

Any other error is a bug in this program, and must not look like a database that is down.
"""

POSTGRES_RETRYABLE_ERRORS = (
    DatabaseUnavailable,
    asyncpg.PostgresError,
    *POSTGRES_UNAVAILABLE_ERRORS,
)
"""What a background task retries: PostgreSQL is unavailable, or it refuses a statement.

A refusal can end later, or by a repair (the lock of a migration, a lost privilege), so it must not
become a crash loop.
"""


class Postgres:
    """A pool of connections to one server.

    `connection()` yields a connection for one unit of work within `timeout_ms`. If the server does
    not answer, the work fails after that time. After several consecutive failures, the circuit
    breaker refuses calls at once.
    """

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", breaker: Breaker, name: str, timeout_ms: int
    ) -> None:
        self._pool = pool
        self._name = name
        self._timeout_s = timeout_ms / 1000
        self.breaker = breaker
        self.last_error = ""
        self._answers = 0

    @contextlib.asynccontextmanager
    async def connection(self, timeout_ms: int | None = None) -> AsyncIterator[Connection]:
        """Yield a connection; the whole block must end within the deadline.

        Raises DatabaseUnavailable if the server is down, full, read-only or too slow. Errors of the
        SQL itself (such as constraint violations) pass through.
        """
        if not self.breaker.allows():
            raise DatabaseUnavailable(f"{self._name} is not answering: {self.last_error}")
        answers = self._answers
        limit = self._timeout_s if timeout_ms is None else timeout_ms / 1000
        connection: Connection | None = None
        deadline = asyncio.get_running_loop().time() + limit
        cut: asyncio.TimerHandle | None = None
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self._pool.acquire()
                # The timeout cancels one wait. The ROLLBACK that a transaction then sends to a server
                # that does not answer would wait for ever, unless the connection is cut.
                cut = asyncio.get_running_loop().call_at(deadline, _cut, connection)
                yield connection
        except POSTGRES_UNAVAILABLE_ERRORS as error:
            self._failed(error, limit, silent=answers == self._answers)
            if connection is not None:
                # Its state is unknown, and an orderly close would wait for the server that has just
                # missed the deadline.
                _cut(connection)
            raise DatabaseUnavailable(
                f"{self._name} is not answering: {self.last_error}"
            ) from error
        except asyncio.CancelledError:
            if connection is not None:
                _cut(connection)
            raise
        except (asyncpg.PostgresError, ShortlinksError):
            self._answered()  # the server refused the statement, or the block raised its own error
            raise
        else:
            self._answered()
        finally:
            if cut is not None:
                cut.cancel()
            if connection is not None:
                await self._release(connection)

    async def _release(self, connection: Connection) -> None:
        # A release waits for the server, too: it sends a reset query.
        with contextlib.suppress(*POSTGRES_UNAVAILABLE_ERRORS):
            await self._pool.release(connection, timeout=self._timeout_s)

    def _answered(self) -> None:
        self._answers += 1
        self.breaker.succeeded()

    def _failed(self, error: BaseException, limit_s: float, *, silent: bool) -> None:
        timed_out = isinstance(error, TimeoutError)
        self.last_error = (
            f"no answer within {limit_s * 1000:.0f} ms" if timed_out else _sentence(error)
        )
        # If some queries are slow while others are answered, the server is up.
        if silent or not timed_out:
            self.breaker.failed()

    def check(self) -> Dependency:
        """Return the line of this server for `/health`, from memory."""
        ok = self.breaker.state == 0
        return Dependency(self._name, ok, "answering" if ok else self.last_error)

    async def close(self) -> None:
        """Close every connection, within a second."""
        try:
            await asyncio.wait_for(self._pool.close(), 1)
        except (TimeoutError, *POSTGRES_UNAVAILABLE_ERRORS):
            self._pool.terminate()


async def open_postgres(
    url: str,
    *,
    name: str,
    pool_size: int,
    statement_cache: int,
    timeout_ms: int,
    breaker: Breaker,
    application: str,
) -> Postgres:
    """Return a pool that connects at the first use, so that a service starts without its server."""
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=pool_size,
        max_inactive_connection_lifetime=300,
        timeout=timeout_ms / 1000,
        statement_cache_size=statement_cache,
        connection_class=_Unchanged,
        server_settings={"application_name": application},
    )
    await pool
    return Postgres(pool, breaker, name, timeout_ms)


class _Unchanged(asyncpg.Connection):
    """A connection that returns to the pool without a round trip to reset its session.

    There is nothing to reset: settings and advisory locks are local to transactions, LISTEN uses
    connections outside of the pool, and the pool rolls back an open transaction in any case.
    """

    def get_reset_query(self) -> str:
        return ""


def _cut(connection: Connection) -> None:
    # A connection that is already cut has left the pool and raises InterfaceError.
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
