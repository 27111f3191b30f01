"""Connections to PostgreSQL and Redis for commands of operators, with long timeouts.

The addresses come from options, else from the settings of the services
(`SHORTLINKS_POSTGRES_URL`, `SHORTLINKS_REDIS_URL`, `…_FILE`), else from the stack that
`shortctl dev` runs in this working directory.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, TypeVar

import asyncpg
import typer

from shortcore.cache import wiring
from shortcore.cache.wiring import Cache
from shortcore.errors import ConfigurationError, ShortlinksError
from shortcore.settings.loader import load
from shortcore.settings.relay import RelaySettings
from shortcore.settings.sources import CONFIG_FILE, PREFIX
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import Postgres, open_postgres
from shortctl.api.client import fail_with
from shortctl.running_stack import running_stack
from shortctl.terminal import fail

PostgresUrl = Annotated[
    str | None,
    typer.Option(
        "--postgres-url",
        help="URL of the PostgreSQL primary. The default is SHORTLINKS_POSTGRES_URL.",
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", help="URL of Redis. The default is SHORTLINKS_REDIS_URL."),
]

T = TypeVar("T")

TIMEOUT_MS = 5000
"""Long, because no redirect waits for these commands."""

APPLICATION = "shortctl"


def settings(postgres_url: str | None, redis_url: str | None = None) -> RelaySettings:
    """Return the settings of the servers. Ends the command with one line for each invalid setting."""
    stack = running_stack()
    if postgres_url is None and stack is not None and not _configured("postgres_url"):
        postgres_url = stack.postgres_url
    if redis_url is None and not _configured("redis_url"):
        # The setting is required, but a command that uses only PostgreSQL must not fail without it.
        redis_url = stack.redis_url if stack is not None else "redis://127.0.0.1"
    given = {"postgres_url": postgres_url, "redis_url": redis_url}
    try:
        return load(RelaySettings, None, **{name: url for name, url in given.items() if url})
    except ConfigurationError as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result. Ends the command with an error if a server is unavailable."""
    try:
        return asyncio.run(work)
    except (ShortlinksError, ConfigurationError) as error:
        fail_with(error)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        fail(f"PostgreSQL: {type(error).__name__}: {error}")


@contextlib.asynccontextmanager
async def open_database(url: str, name: str = "postgres") -> AsyncIterator[Postgres]:
    """Yield the database at `url`; the first query opens a connection."""
    database = await open_postgres(
        url,
        name=name,
        pool_size=2,
        statement_cache=64,
        timeout_ms=TIMEOUT_MS,
        breaker=_no_breaker(),
        application=APPLICATION,
    )
    try:
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def open_cache(settings: RelaySettings) -> AsyncIterator[Cache]:
    """Yield Redis with the TTLs and the key prefix that the services use."""
    cache = wiring.open_cache(
        settings, _no_breaker(), APPLICATION, timeout_ms=TIMEOUT_MS, pool_size=4
    )
    try:
        yield cache
    finally:
        await cache.close()


def _no_breaker() -> Breaker:
    # A command ends at the first failure, so a circuit breaker would be of no use.
    return Breaker(failures=1_000_000, open_s=0, clock=time.monotonic)


def _configured(name: str) -> bool:
    variable = f"{PREFIX}{name.upper()}"
    return any(each in os.environ for each in (variable, f"{variable}_FILE", CONFIG_FILE))
