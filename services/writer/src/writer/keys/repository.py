"""All SQL about API keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shortcore.storage.postgres import Connection

_COLUMNS = "id, name, prefix, created_at, expires_at, last_used_at, revoked_at"
_PAGE = f"SELECT {_COLUMNS} FROM api_keys WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608  # constants only
_ADD = f"""INSERT INTO api_keys (name, prefix, hash, expires_at) VALUES ($1, $2, $3, $4)
RETURNING {_COLUMNS}"""  # noqa: S608  # constants only
_SECRETS = """SELECT prefix, id, hash, expires_at FROM api_keys
WHERE prefix = ANY($1::text[]) AND revoked_at IS NULL"""
_REVOKE = """UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1
RETURNING true"""
_USED = """UPDATE api_keys AS k SET last_used_at = greatest(k.last_used_at, u.at)
FROM unnest($1::bigint[], $2::timestamptz[]) AS u (id, at) WHERE k.id = u.id"""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeySecret:
    """The stored hash of a key, with which the key of a request is compared."""

    id: int
    hash: bytes
    expires_at: datetime | None


async def list_keys(connection: Connection, after: int, limit: int) -> list[ApiKey]:
    """Return the first `limit` keys with an id above `after`, revoked ones included."""
    return [ApiKey(*row) for row in await connection.fetch(_PAGE, after, limit)]


async def add_key(
    connection: Connection, name: str, prefix: str, digest: bytes, expires_at: datetime | None
) -> ApiKey:
    """Add a key. Raises asyncpg.UniqueViolationError if the prefix is in use."""
    row = await connection.fetchrow(_ADD, name, prefix, digest, expires_at)
    return ApiKey(*row)  # type: ignore[misc]  # an insert without a condition returns its row


async def find_secrets(connection: Connection, prefixes: Sequence[str]) -> dict[str, KeySecret]:
    """Return the secrets of the keys with these prefixes, except revoked ones."""
    rows = await connection.fetch(_SECRETS, prefixes)
    return {row["prefix"]: KeySecret(row["id"], row["hash"], row["expires_at"]) for row in rows}


async def revoke_key(connection: Connection, key_id: int) -> bool:
    """Revoke a key; returns whether the key exists."""
    return bool(await connection.fetchval(_REVOKE, key_id))


async def store_uses(connection: Connection, uses: Mapping[int, datetime]) -> None:
    """Store the last use of each key."""
    await connection.execute(_USED, list(uses), list(uses.values()))
