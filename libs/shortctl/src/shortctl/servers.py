"""PostgreSQL and Redis as the administration's commands open them: patient, one at a time."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shortcore.breaker import Breaker
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore, Lifetimes
from shortcore.changes import ChangeFeed
from shortcore.postgres import Postgres, open_postgres
from shortcore.redis import Client, open_redis
from shortcore.settings import RelaySettings

TIMEOUT_MS = 5000
"""A person waits for these commands, no redirect does."""

APPLICATION = "shortctl"


@dataclass(frozen=True, slots=True)
class Redis:
    """The cache and the feed, and the client under them."""

    client: Client
    store: CacheStore
    feed: ChangeFeed


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
async def open_cache(settings: RelaySettings) -> AsyncIterator[Redis]:
    """Give Redis with the lifetimes and under the prefix that the services use."""
    client = open_redis(
        settings.redis_url.get_secret_value(),
        timeout_ms=TIMEOUT_MS,
        pool_size=4,
        application=APPLICATION,
    )
    keys = CacheKeys(settings.redis_prefix)
    store = CacheStore(
        client,
        keys,
        lifetimes=Lifetimes(
            link_ms=settings.cache_ttl_s * 1000,
            negative_ms=settings.cache_negative_ttl_s * 1000,
            tombstone_ms=settings.cache_tombstone_ttl_s * 1000,
            fill_max_age_ms=settings.cache_fill_max_age_ms,
        ),
        timeout_ms=TIMEOUT_MS,
        breaker=_no_breaker(),
        now_ms=now_ms,
    )
    feed = ChangeFeed(
        client, keys, max_length=settings.feed_max_length, max_age_s=settings.feed_max_age_s
    )
    try:
        yield Redis(client, store, feed)
    finally:
        await store.close()


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _no_breaker() -> Breaker:
    # A command tells of the first failure and ends; there is nobody to protect from the next.
    return Breaker(failures=1_000_000, open_s=0, clock=time.monotonic)
