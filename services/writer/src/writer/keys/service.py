"""Creates, lists and revokes API keys."""

from datetime import datetime

import asyncpg

from shortcore.errors import KeyNotFound
from shortcore.storage.postgres import Connection, Postgres
from writer.keys import repository
from writer.keys.authenticator import ApiKeyAuthenticator
from writer.keys.repository import ApiKey
from writer.keys.secret import digest_of, new_secret


class KeyService:
    """Creates, lists and revokes API keys."""

    def __init__(self, postgres: Postgres, authenticator: ApiKeyAuthenticator) -> None:
        self._postgres = postgres
        self._authenticator = authenticator

    async def page(self, after: int, limit: int) -> list[ApiKey]:
        """Return the first `limit` keys with an id above `after`, revoked ones included."""
        async with self._postgres.connection() as connection:
            return await repository.list_keys(connection, after, limit)

    async def create(self, name: str, expires_at: datetime | None) -> tuple[ApiKey, str]:
        """Create a key; returns the key and its text, which cannot be shown again."""
        async with self._postgres.connection() as connection:
            return await create_key(connection, name, expires_at)

    async def revoke(self, key_id: int) -> None:
        """Revoke a key; other writers reject it within seconds. Raises KeyNotFound."""
        async with self._postgres.connection() as connection:
            found = await repository.revoke_key(connection, key_id)
        if not found:
            raise KeyNotFound(f"There is no key {key_id}.")
        self._authenticator.forget()


async def create_key(
    connection: Connection, name: str, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Create a key on `connection`, outside of a transaction; returns the key and its text."""
    while True:
        secret, prefix = new_secret()
        try:
            key = await repository.add_key(connection, name, prefix, digest_of(secret), expires_at)
        except asyncpg.UniqueViolationError:
            continue  # one of 36^8 prefixes is in use: choose another
        return key, secret
