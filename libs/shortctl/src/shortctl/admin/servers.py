"""PostgreSQL and Redis as the administration's commands open them: patient, one at a time.

Options name them, then `SHORTLINKS_POSTGRES_URL`, `SHORTLINKS_REDIS_URL` and the other settings
(or their files); what these leave out is taken from the stack that runs here.
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
from shortcore.settings import CONFIG_FILE, PREFIX, RelaySettings, load
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import Postgres, open_postgres
from shortctl.api.client import dev_facts, die, explain

PostgresUrl = Annotated[
    str | None, typer.Option("--postgres-url", help="The primary [SHORTLINKS_POSTGRES_URL].")
]
RedisUrl = Annotated[str | None, typer.Option("--redis-url", help="Redis [SHORTLINKS_REDIS_URL].")]

T = TypeVar("T")

TIMEOUT_MS = 5000
"""A person waits for these commands, no redirect does."""

APPLICATION = "shortctl"


def settings(postgres_url: str | None, redis_url: str | None = None) -> RelaySettings:
    """Return the settings of the servers behind the API; ends with a line for each fault."""
    facts = dev_facts()
    if postgres_url is None and facts is not None and not _configured("postgres_url"):
        postgres_url = facts.postgres_url
    if redis_url is None and not _configured("redis_url"):
        # A command that asks PostgreSQL alone must not fail for want of this address.
        redis_url = facts.redis_url if facts is not None else "redis://127.0.0.1"
    given = {"postgres_url": postgres_url, "redis_url": redis_url}
    try:
        return load(RelaySettings, None, **{name: url for name, url in given.items() if url})
    except ConfigurationError as error:
        die(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result; ends with a sentence when a server is away."""
    try:
        return asyncio.run(work)
    except (ShortlinksError, ConfigurationError) as error:
        explain(error)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        die(f"PostgreSQL: {type(error).__name__}: {error}")


@contextlib.asynccontextmanager
async def open_database(url: str, name: str = "postgres") -> AsyncIterator[Postgres]:
    """Give the database at `url`; it connects when first asked."""
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
    """Give Redis with the TTLs and under the prefix that the services use."""
    cache = wiring.open_cache(
        settings, _no_breaker(), APPLICATION, timeout_ms=TIMEOUT_MS, pool_size=4
    )
    try:
        yield cache
    finally:
        await cache.close()


def _no_breaker() -> Breaker:
    # A command tells of the first failure and ends; there is nobody to protect from the next.
    return Breaker(failures=1_000_000, open_s=0, clock=time.monotonic)


def _configured(name: str) -> bool:
    variable = f"{PREFIX}{name.upper()}"
    return any(each in os.environ for each in (variable, f"{variable}_FILE", CONFIG_FILE))
