"""Waits for the database schema at the start of a process, according to a policy."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from shortcore.storage.postgres import Postgres
from shortcore.storage.schema import check_schema

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class SchemaWait:
    """Which errors of a check are retried, at which interval, and for how long.

    Name DatabaseUnavailable (or POSTGRES_UNAVAILABLE_ERRORS) to wait for PostgreSQL, and SchemaOlder
    to wait for a migration.
    """

    retry_on: tuple[type[Exception], ...]
    interval_s: float = 0.5
    timeout_s: float = math.inf


async def wait_for_schema(
    check: Callable[[], Awaitable[object]],
    policy: SchemaWait,
    on_retry: Callable[[Exception], None] = lambda _: None,
) -> None:
    """Return when `check` succeeds; `on_retry` gets each error that is retried.

    Raises the last error once the policy's timeout is over, and any other error at once.
    """
    deadline = time.monotonic() + policy.timeout_s
    while True:
        try:
            await check()
        except policy.retry_on as error:
            if time.monotonic() + policy.interval_s > deadline:
                raise
            on_retry(error)
            await asyncio.sleep(policy.interval_s)
        else:
            return


async def check_connection(url: str) -> None:
    """Connect to PostgreSQL once, with a timeout. Raises POSTGRES_UNAVAILABLE_ERRORS."""
    await _with_connection(url)


async def check_schema_at(url: str) -> None:
    """Check the schema over a separate connection.

    Raises POSTGRES_UNAVAILABLE_ERRORS, and the errors of check_schema.
    """
    await _with_connection(url, check_schema)


async def check_schema_of(postgres: Postgres) -> None:
    """Check the schema over the pool. Raises DatabaseUnavailable and the errors of check_schema."""
    async with postgres.connection() as connection:
        await check_schema(connection)


async def _with_connection(
    url: str,
    use: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]] | None = None,
) -> None:
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        connection = await asyncpg.connect(url)
        try:
            if use is not None:
                await use(connection)
        finally:
            connection.terminate()
