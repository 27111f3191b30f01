"""Opens Redis, its cache store and its change feed from the settings, in the same way everywhere."""

from collections.abc import Callable
from dataclasses import dataclass

from shortcore.cache.change_feed import ChangeFeed
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore
from shortcore.cache.ttls import CacheTtls
from shortcore.clock import unix_ms
from shortcore.settings.shared import ServiceSettings
from shortcore.settings.storage import CacheSettings
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import Client, open_redis


@dataclass(frozen=True, slots=True)
class Cache:
    """A Redis client, with the cache store and the change feed that use it."""

    client: Client
    keys: CacheKeys
    store: CacheStore
    feed: ChangeFeed

    async def close(self) -> None:
        """Close every connection."""
        await self.store.close()


def open_cache(
    settings: ServiceSettings,
    breaker: Breaker,
    application: str,
    *,
    timeout_ms: int | None = None,
    store_timeout_ms: int | None = None,
    pool_size: int | None = None,
    now_ms: Callable[[], int] = unix_ms,
) -> Cache:
    """Return the cache; it connects at the first use.

    `timeout_ms` is the timeout of each reply (default: `redis_timeout_ms`). `store_timeout_ms` is
    the timeout of each call of the store (default: `timeout_ms`). Raises ConfigurationError for an
    invalid URL.
    """
    if timeout_ms is None:
        timeout_ms = settings.redis_timeout_ms
    client = open_redis(
        settings.redis_url.get_secret_value(),
        timeout_ms=timeout_ms,
        pool_size=settings.redis_pool_size if pool_size is None else pool_size,
        application=application,
    )
    keys = CacheKeys(settings.redis_prefix)
    store = CacheStore(
        client,
        keys,
        ttls=cache_ttls(settings),
        timeout_ms=timeout_ms if store_timeout_ms is None else store_timeout_ms,
        breaker=breaker,
        now_ms=now_ms,
    )
    return Cache(client, keys, store, open_feed(settings, client, keys))


def open_feed(settings: CacheSettings, client: Client, keys: CacheKeys) -> ChangeFeed:
    """Return the change feed over `client`."""
    return ChangeFeed(
        client, keys, max_length=settings.feed_max_length, max_age_s=settings.feed_max_age_s
    )


def cache_ttls(settings: CacheSettings) -> CacheTtls:
    """Return how long Redis keeps each kind of record."""
    return CacheTtls(
        link_ms=settings.cache_ttl_s * 1000,
        negative_ms=settings.cache_negative_ttl_s * 1000,
        tombstone_ms=settings.cache_tombstone_ttl_s * 1000,
        fill_max_age_ms=settings.cache_fill_max_age_ms,
    )
