"""Waiting, within a bound, for PostgreSQL to come up and for its schema to fit."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg

from shortcore.errors import ConfigurationError, SchemaOlder
from shortcore.storage.schema import check_schema

ASK_EVERY_S = 0.5
CONNECT_S = 5.0

NOT_UP = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    # Operators make role and database a moment after the server answers.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


async def wait_until_up(url: str, seconds: float) -> None:
    """Return when PostgreSQL lets us in; raises what it last said after `seconds`."""

    async def nothing(_: "asyncpg.Connection[asyncpg.Record]") -> None:
        """To be let in is all."""

    await _until(url, seconds, nothing, NOT_UP)


async def wait_for_schema(url: str, seconds: float) -> None:
    """Return when the schema fits this code.

    Raises ConfigurationError after `seconds`, or at once when the schema needs newer code.
    """
    try:
        await _until(url, seconds, check_schema, (*NOT_UP, SchemaOlder))
    except NOT_UP as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigurationError(
            f"PostgreSQL could not be asked within {seconds:g} s: {said}"
        ) from error


async def _until(
    url: str,
    seconds: float,
    ask: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]],
    again: tuple[type[Exception], ...],
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await asyncpg.connect(url)
                try:
                    await ask(connection)
                finally:
                    connection.terminate()
        except again:
            if time.monotonic() + ASK_EVERY_S > deadline:
                raise
            await asyncio.sleep(ASK_EVERY_S)
        else:
            return
