"""Opens PostgreSQL from the settings, in the same way for every process."""

import time
from collections.abc import Callable

from pydantic import SecretStr

from shortcore.settings.storage import PostgresSettings, RedisSettings
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import Postgres, open_postgres


def make_breaker(settings: RedisSettings, clock: Callable[[], float] = time.monotonic) -> Breaker:
    """Return a closed circuit breaker; each dependency needs its own."""
    return Breaker(
        failures=settings.breaker_failures, open_s=settings.breaker_open_ms / 1000, clock=clock
    )


async def open_primary(settings: PostgresSettings, breaker: Breaker, application: str) -> Postgres:
    """Return the pool of the primary; it connects at the first use."""
    return await _open(settings, settings.postgres_url, "postgres", breaker, application)


async def open_replica(
    settings: PostgresSettings, breaker: Breaker, application: str
) -> Postgres | None:
    """Return the pool of the read replica, or None if the settings name no replica."""
    url = settings.postgres_read_url
    return None if url is None else await _open(settings, url, "replica", breaker, application)


async def _open(
    settings: PostgresSettings, url: SecretStr, name: str, breaker: Breaker, application: str
) -> Postgres:
    return await open_postgres(
        url.get_secret_value(),
        name=name,
        pool_size=settings.postgres_pool_size,
        statement_cache=settings.postgres_statement_cache,
        timeout_ms=settings.postgres_timeout_ms,
        breaker=breaker,
        application=application,
    )
