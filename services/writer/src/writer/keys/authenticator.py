"""Authenticates bearer API keys (RFC 6750), which it caches for a few seconds."""

import asyncio
import hmac
from collections.abc import Sequence
from datetime import datetime

import structlog

from shortcore.clock import Now
from shortcore.errors import Unauthorized
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from writer.keys import repository
from writer.keys.repository import KeySecret
from writer.keys.secret import digest_of, prefix_of
from writer.storage.batching import Batcher

log = structlog.stdlib.get_logger(__name__)

CACHE_TTL_S = 3.0
"""TTL of a cached key, and so the time until a revocation takes effect."""

STORE_USES_INTERVAL_S = 60.0
_MAX_CACHED = 1000
_MAX_BATCH = 100


class ApiKeyAuthenticator:
    """Authenticates API keys; reads a key from PostgreSQL if it is not cached."""

    def __init__(self, postgres: Postgres, now: Now) -> None:
        self._postgres = postgres
        self._now = now
        self._cached: dict[str, tuple[KeySecret, datetime]] = {}
        self._used: dict[int, datetime] = {}
        # One query at a time, however many unknown keys arrive: the other connections remain free
        # for valid requests.
        self._lookups: Batcher[str, KeySecret | None] = Batcher(
            self._look_up, max_items=_MAX_BATCH, max_waiting=_MAX_CACHED
        )

    async def authenticate(self, authorization: str | None) -> int:
        """Return the id of the key in the header `Authorization`.

        Raises Unauthorized, and DatabaseUnavailable if the key is not cached.
        """
        if authorization is None:
            raise Unauthorized("Send an API key as `Authorization: Bearer sl_…`.")
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        prefix = prefix_of(key)
        if scheme.lower() != "bearer" or prefix is None:
            raise Unauthorized("The header Authorization has no valid API key.")
        secret = await self._secret(prefix)
        now = self._now()
        if secret is None or not hmac.compare_digest(secret.hash, digest_of(key)):
            raise Unauthorized("The API key is unknown or was revoked.")
        if secret.expires_at is not None and secret.expires_at <= now:
            raise Unauthorized("The API key has expired.")
        self._used[secret.id] = now
        return secret.id

    def forget(self) -> None:
        """Clear the cache, because a key has changed."""
        self._cached.clear()

    async def store_uses_forever(self) -> None:
        """Store the last use of each key, once a minute."""
        while True:
            await asyncio.sleep(STORE_USES_INTERVAL_S)
            await self.store_uses()

    async def store_uses(self) -> None:
        """Store the uses since the last call; keeps them for the next call if PostgreSQL fails."""
        if not self._used:
            return
        uses, self._used = self._used, {}
        try:
            async with self._postgres.connection() as connection:
                await repository.store_uses(connection, uses)
        except POSTGRES_RETRYABLE_ERRORS as error:
            self._used = uses | self._used
            log.warning("storing the last uses of API keys failed", error=str(error))

    async def _secret(self, prefix: str) -> KeySecret | None:
        cached = self._cached.get(prefix)
        if cached is not None and (self._now() - cached[1]).total_seconds() < CACHE_TTL_S:
            return cached[0]
        return await self._lookups.submit(prefix)

    async def _look_up(self, prefixes: Sequence[str]) -> list[KeySecret | None]:
        read_at = self._now()
        async with self._postgres.connection() as connection:
            secrets = await repository.find_secrets(connection, prefixes)
        for prefix in prefixes:
            self._cached.pop(prefix, None)
            if prefix in secrets:
                self._cached[prefix] = (secrets[prefix], read_at)
        while len(self._cached) > _MAX_CACHED:
            del self._cached[next(iter(self._cached))]
        return [secrets.get(prefix) for prefix in prefixes]
