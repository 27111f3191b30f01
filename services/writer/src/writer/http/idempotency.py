"""Idempotency-Key: a request that is sent twice is processed once and gets the same response.

(draft-ietf-httpapi-idempotency-key-header.) The response is stored in the transaction that does
the work, so a crash cannot separate the two. Only successful responses are stored: a failed
request changed nothing and may be sent again.
"""

import asyncio
import re
from dataclasses import dataclass

import asyncpg
import msgspec
import structlog

from shortcore.errors import (
    IdempotencyKeyReused,
    MalformedRequest,
    RequestInFlight,
)
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Connection, Postgres

log = structlog.stdlib.get_logger(__name__)

KEY = re.compile(r"^[!-~](?:[ -~]{0,253}[!-~])?$", re.ASCII)
"""Printable ASCII without a space at either end."""

_CLAIM_TIMEOUT_MS = 2000

# A second request with the same key waits here until the transaction of the first one ends. An
# expired row counts as absent.
_CLAIM = """
INSERT INTO idempotency AS i (key_id, idempotency_key, request_hash) VALUES ($1, $2, $3)
ON CONFLICT (key_id, idempotency_key) DO UPDATE
    SET request_hash = $3, status = NULL, headers = NULL, body = NULL, created_at = now()
    WHERE i.created_at < now() - make_interval(secs => $4)
RETURNING true
"""
_READ = """
SELECT request_hash, status, headers, body FROM idempotency
WHERE key_id = $1 AND idempotency_key = $2 AND created_at >= now() - make_interval(secs => $3)
"""
_STORE = """
UPDATE idempotency SET status = $3, headers = $4, body = $5
WHERE key_id = $1 AND idempotency_key = $2
"""
_PURGE_INTERVAL_S = 60
_PURGE_BATCH = 1000
_PURGE = f"""
WITH old AS (
    SELECT key_id, idempotency_key FROM idempotency
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT {_PURGE_BATCH} FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM idempotency USING old
    WHERE idempotency.key_id = old.key_id
        AND idempotency.idempotency_key = old.idempotency_key RETURNING 1
) SELECT count(*) FROM deleted
"""  # noqa: S608  # a constant


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is sent; `replayed` says that it is the response to an earlier request."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request with an Idempotency-Key: the id of its API key, the key, the hash of the request."""

    key_id: int
    key: str
    request_hash: bytes


def check_key(key: str) -> None:
    """Raise MalformedRequest unless `key` is 1 to 255 printable ASCII characters."""
    if not KEY.fullmatch(key):
        raise MalformedRequest("An Idempotency-Key has 1 to 255 printable ASCII characters.")


class IdempotencyStore:
    """The stored responses of requests with an Idempotency-Key.

    Every method takes None for a request without a key, and then does nothing.
    """

    def __init__(self, postgres: Postgres, ttl_s: int) -> None:
        self._postgres = postgres
        self._ttl_s = ttl_s

    async def earlier(self, request: IdempotentRequest | None) -> StoredResponse | None:
        """Return the stored response to an equal request, if there is one.

        Call this before validation: a request must get the same response again even if it has
        become invalid, for example because its expiry has passed. Raises IdempotencyKeyReused.
        """
        if request is None:
            return None
        async with self._postgres.connection() as connection:
            return await self._read(connection, request)

    async def claim(
        self, connection: Connection, request: IdempotentRequest | None
    ) -> StoredResponse | None:
        """Claim the key within the caller's transaction, or return the stored response.

        Raises RequestInFlight if another request with the key is still in progress after a wait,
        and IdempotencyKeyReused if that was a different request.
        """
        if request is None:
            return None
        await connection.execute(f"SET LOCAL lock_timeout = {_CLAIM_TIMEOUT_MS}")
        try:
            claimed = await connection.fetchval(
                _CLAIM, request.key_id, request.key, request.request_hash, self._ttl_s
            )
        except asyncpg.LockNotAvailableError:
            raise RequestInFlight(
                "Another request with this Idempotency-Key is in progress.", retry_after_s=1
            ) from None
        if claimed:
            await connection.execute("SET LOCAL lock_timeout = 0")
            return None
        stored = await self._read(connection, request)
        if stored is None:  # purged between the two statements
            raise RequestInFlight("The Idempotency-Key has just expired; retry.", retry_after_s=1)
        return stored

    async def store(
        self, connection: Connection, request: IdempotentRequest | None, response: StoredResponse
    ) -> None:
        """Store `response` in the transaction that did the work."""
        if request is None:
            return
        headers = msgspec.json.encode(response.headers).decode()
        await connection.execute(
            _STORE, request.key_id, request.key, response.status, headers, response.body
        )

    async def _read(
        self, connection: Connection, request: IdempotentRequest
    ) -> StoredResponse | None:
        row = await connection.fetchrow(_READ, request.key_id, request.key, self._ttl_s)
        if row is None:
            return None
        if row["request_hash"] != request.request_hash:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used with another request; use a new key."
            )
        headers = msgspec.json.decode(row["headers"], type=dict[str, str])
        return StoredResponse(row["status"], headers, row["body"], replayed=True)


async def purge_forever(postgres: Postgres, ttl_s: int) -> None:
    """Delete keys that are older than `ttl_s`, every minute."""
    while True:
        await asyncio.sleep(_PURGE_INTERVAL_S)
        try:
            await purge(postgres, ttl_s)
        except POSTGRES_RETRYABLE_ERRORS as error:
            log.warning("purging expired Idempotency-Keys failed", error=str(error))


async def purge(postgres: Postgres, ttl_s: int) -> None:
    """Delete keys that are older than `ttl_s`, oldest first, in batches.

    Each batch uses its own connection and timeout, so the number of batches is not limited. Raises
    DatabaseUnavailable.
    """
    while True:
        async with postgres.connection() as connection:
            purged = await connection.fetchval(_PURGE, ttl_s)
        if purged < _PURGE_BATCH:
            return
