"""Settings of PostgreSQL, of Redis, and of the link cache in Redis."""

from typing import Any

from pydantic import Field, SecretStr, model_validator

from shortcore.settings.fields import Milliseconds
from shortcore.settings.sources import Settings
from shortcore.settings.urls import with_password


class PostgresSettings(Settings):
    """PostgreSQL."""

    postgres_url: SecretStr = Field(
        description="URL of the primary: `postgresql://user:password@host:port/database?sslmode=…`"
    )
    postgres_read_url: SecretStr | None = Field(
        None,
        description="URL of a read replica, which answers lookups and read-only API calls. If "
        "unset, the primary answers them",
    )
    postgres_password: SecretStr | None = Field(
        None,
        description="Password, without percent-encoding. It is used for each of the two URLs that "
        "contains no password",
    )
    postgres_timeout_ms: Milliseconds = Field(
        500,
        gt=0,
        description="Timeout of a lookup, including the wait for a connection. A lookup that takes "
        "longer fails, and the circuit breaker counts it",
    )
    postgres_write_timeout_ms: Milliseconds = Field(
        5000,
        gt=0,
        description="Timeout of a write transaction, including the wait for a connection. A "
        "transaction that takes longer is rolled back, and the API answers 503",
    )
    postgres_pool_size: int = Field(
        8,
        ge=1,
        le=200,
        description="Maximum number of connections of a process to each server. When all are in "
        "use, queries wait for one",
    )
    postgres_statement_cache: int = Field(
        256,
        ge=0,
        le=10_000,
        description="Maximum number of prepared statements per connection. Set 0 if the server is "
        "behind a pooler in transaction mode",
    )

    @model_validator(mode="before")
    @classmethod
    def _insert_postgres_password(cls, values: dict[str, Any]) -> dict[str, Any]:
        return with_password(values, "postgres_password", "postgres_url", "postgres_read_url")


class RedisSettings(Settings):
    """Redis or Valkey."""

    redis_url: SecretStr = Field(
        description="URL: `redis://host:port/db`, `rediss://host:port/db` for TLS, "
        "`redis+sentinel://host:port,…/name`, or `redis+cluster://host:port,…`"
    )
    redis_password: SecretStr | None = Field(
        None,
        description="Password, without percent-encoding. It is used if the URL contains no "
        "password",
    )
    redis_prefix: str = Field("sl:", max_length=64, description="Prefix of all keys")
    redis_timeout_ms: Milliseconds = Field(
        50,
        gt=0,
        description="Timeout of a call, including the connection. A call that takes longer fails, "
        "and the circuit breaker counts it",
    )
    redis_pool_size: int = Field(
        16, ge=1, le=1000, description="Maximum number of connections of a process"
    )
    breaker_failures: int = Field(
        3,
        ge=1,
        le=1000,
        description="Consecutive failures that open the circuit breaker of a dependency "
        "(PostgreSQL or Redis). While it is open, calls fail at once",
    )
    breaker_open_ms: Milliseconds = Field(
        1000, gt=0, description="Time until an open circuit breaker lets one call through as a test"
    )

    @model_validator(mode="before")
    @classmethod
    def _insert_redis_password(cls, values: dict[str, Any]) -> dict[str, Any]:
        return with_password(values, "redis_password", "redis_url")


class CacheSettings(Settings):
    """Link cache and change feed in Redis."""

    cache_ttl_s: int = Field(
        86_400,
        ge=1,
        description="TTL of a link in Redis. Each link gets a random TTL up to 10% shorter, so that "
        "links do not expire together",
    )
    cache_negative_ttl_s: int = Field(
        30,
        ge=1,
        le=3600,
        description="TTL of a negative entry in Redis: the fact that a code does not exist",
    )
    cache_tombstone_ttl_s: int = Field(
        86_400,
        ge=60,
        description="TTL of a tombstone in Redis: the record that a link was deleted",
    )
    cache_fill_max_age_ms: Milliseconds = Field(
        2000,
        gt=0,
        description="Maximum age of a record that is written to Redis, from its read from "
        "PostgreSQL. An older record may be outdated and is refused",
    )
    feed_max_length: int = Field(
        20_000,
        ge=100,
        description="Maximum number of entries in the change feed. A redirector that misses trimmed "
        "entries looks up all of its cached links again",
    )
    feed_max_age_s: int = Field(
        3600, ge=60, description="Maximum age of entries in the change feed; older ones are trimmed"
    )
