"""Idempotency-Key: the same request sent twice does its work once and is answered the same.

(draft-ietf-httpapi-idempotency-key-header.) The answer is stored in the transaction that does
the work, so that there is no instant at which a crash could separate the two. Only successes
are stored: a request that failed did nothing and may be tried again.
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
"""What a key looks like: as a header carries it, with no blank at either end."""

_WAIT_MS = 2000

# A second request with the same key waits here for the first one's transaction to end. An
# expired row is taken over as if it were absent.
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
_PURGE_EVERY_S = 60
_PURGE_AT_ONCE = 1000
_PURGE = f"""
WITH old AS (
    SELECT key_id, idempotency_key FROM idempotency
    WHERE created_at < now() - make_interval(secs => $1)
    ORDER BY created_at LIMIT {_PURGE_AT_ONCE} FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM idempotency USING old
    WHERE idempotency.key_id = old.key_id
        AND idempotency.idempotency_key = old.idempotency_key RETURNING 1
) SELECT count(*) FROM gone
"""  # noqa: S608  # a constant


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer as it goes over the wire; `replayed` says that it was given before."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request that came with a key: whose (`key_id` of the API key), which, and its hash."""

    key_id: int
    key: str
    request_hash: bytes


def check_key(key: str) -> None:
    """Raise MalformedRequest unless `key` is 1 to 255 printable ASCII characters."""
    if not KEY.fullmatch(key):
        raise MalformedRequest("An Idempotency-Key has 1 to 255 printable ASCII characters.")


async def claim(
    connection: Connection, idempotent: IdempotentRequest, ttl_s: int
) -> StoredResponse | None:
    """Claim the key within the caller's transaction, or return the answer given before.

    Raises RequestInFlight when another request with the key is still at work after a while,
    and IdempotencyKeyReused when it was another request.
    """
    await connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}")
    try:
        claimed = await connection.fetchval(
            _CLAIM, idempotent.key_id, idempotent.key, idempotent.request_hash, ttl_s
        )
    except asyncpg.LockNotAvailableError:
        raise RequestInFlight(
            "Another request with this Idempotency-Key is being worked on.", retry_after_s=1
        ) from None
    if claimed:
        await connection.execute("SET LOCAL lock_timeout = 0")
        return None
    answer = await earlier(connection, idempotent, ttl_s)
    if answer is None:  # purged between the two statements
        raise RequestInFlight("The Idempotency-Key has just expired; try again.", retry_after_s=1)
    return answer


async def earlier(
    connection: Connection, idempotent: IdempotentRequest, ttl_s: int
) -> StoredResponse | None:
    """Return the stored answer, if there is one; raises IdempotencyKeyReused."""
    row = await connection.fetchrow(_READ, idempotent.key_id, idempotent.key, ttl_s)
    if row is None:
        return None
    if row["request_hash"] != idempotent.request_hash:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used with another request; take a new one."
        )
    headers = msgspec.json.decode(row["headers"], type=dict[str, str])
    return StoredResponse(row["status"], headers, row["body"], replayed=True)


async def store(
    connection: Connection, idempotent: IdempotentRequest, answer: StoredResponse
) -> None:
    """Keep `answer` with the key, in the transaction that did the work."""
    headers = msgspec.json.encode(answer.headers).decode()
    await connection.execute(
        _STORE, idempotent.key_id, idempotent.key, answer.status, headers, answer.body
    )


async def purge_forever(postgres: Postgres, ttl_s: int) -> None:
    """Delete keys that are older than `ttl_s`, every minute."""
    while True:
        await asyncio.sleep(_PURGE_EVERY_S)
        try:
            await purge(postgres, ttl_s)
        except POSTGRES_RETRYABLE_ERRORS as error:
            log.warning("old Idempotency-Keys were not purged", error=str(error))


async def purge(postgres: Postgres, ttl_s: int) -> None:
    """Delete keys that are older than `ttl_s`, the oldest first, a bounded number at once.

    Each batch takes a connection, and so the timeout of one statement, for itself: the number of
    batches after a busy day is no reason to give up. Raises DatabaseUnavailable.
    """
    while True:
        async with postgres.connection() as connection:
            purged = await connection.fetchval(_PURGE, ttl_s)
        if purged < _PURGE_AT_ONCE:
            return
