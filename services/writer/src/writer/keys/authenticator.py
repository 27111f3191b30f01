"""Who is asking: bearer API keys (RFC 6750), remembered for a few seconds."""

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

REMEMBER_S = 3.0
"""How long a key is taken without asking again: the time that a revocation needs."""

NOTE_USES_EVERY_S = 60.0
_MAX_REMEMBERED = 1000
_ASKED_AT_ONCE = 100


class ApiKeyAuthenticator:
    """Recognises API keys; asks PostgreSQL for one that was not seen in the last seconds."""

    def __init__(self, postgres: Postgres, now: Now) -> None:
        self._postgres = postgres
        self._now = now
        self._seen: dict[str, tuple[KeySecret, datetime]] = {}
        self._used: dict[int, datetime] = {}
        # One query at a time, however many unknown keys come: the other connections are for
        # those who have one.
        self._asking: Batcher[str, KeySecret | None] = Batcher(
            self._look_up, max_items=_ASKED_AT_ONCE, max_waiting=_MAX_REMEMBERED
        )

    async def authenticate(self, authorization: str | None) -> int:
        """Return the id of the key in the header `Authorization`.

        Raises Unauthorized, or DatabaseUnavailable when the key is not remembered.
        """
        if authorization is None:
            raise Unauthorized("Send an API key as `Authorization: Bearer sl_…`.")
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        prefix = prefix_of(key)
        if scheme.lower() != "bearer" or prefix is None:
            raise Unauthorized("The header Authorization holds no API key of ours.")
        secret = await self._secret(prefix)
        now = self._now()
        if secret is None or not hmac.compare_digest(secret.hash, digest_of(key)):
            raise Unauthorized("The API key is unknown or was revoked.")
        if secret.expires_at is not None and secret.expires_at <= now:
            raise Unauthorized("The API key has expired.")
        self._used[secret.id] = now
        return secret.id

    def forget(self) -> None:
        """Ask again for every key, because one has changed."""
        self._seen.clear()

    async def note_uses_forever(self) -> None:
        """Write when keys were used last, once a minute."""
        while True:
            await asyncio.sleep(NOTE_USES_EVERY_S)
            await self.note_uses()

    async def note_uses(self) -> None:
        """Write the uses since the last time; they are tried again if PostgreSQL is down or refuses."""
        if not self._used:
            return
        uses, self._used = self._used, {}
        try:
            async with self._postgres.connection() as connection:
                await repository.note_uses(connection, uses)
        except POSTGRES_RETRYABLE_ERRORS as error:
            self._used = uses | self._used
            log.warning("the last use of keys was not written", error=str(error))

    async def _secret(self, prefix: str) -> KeySecret | None:
        remembered = self._seen.get(prefix)
        if remembered is not None and (self._now() - remembered[1]).total_seconds() < REMEMBER_S:
            return remembered[0]
        return await self._asking.submit(prefix)

    async def _look_up(self, prefixes: Sequence[str]) -> list[KeySecret | None]:
        asked_at = self._now()
        async with self._postgres.connection() as connection:
            secrets = await repository.find_secrets(connection, prefixes)
        for prefix in prefixes:
            self._seen.pop(prefix, None)
            if prefix in secrets:
                self._seen[prefix] = (secrets[prefix], asked_at)
        while len(self._seen) > _MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return [secrets.get(prefix) for prefix in prefixes]
