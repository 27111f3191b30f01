"""All SQL about events and their deliveries."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shortcore.links.event_rows import SNAPSHOT, wanted
from shortcore.storage.postgres import Connection
from writer.worker.webhooks.messages import Event

# A crash before the commit dispatches the events again; ON CONFLICT keeps one delivery of each.
_DISPATCH = """
WITH e AS (
    SELECT id, type, threshold FROM webhook_events WHERE NOT dispatched
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), d AS (
    INSERT INTO webhook_deliveries (webhook_id, event_id)
    SELECT w.id, e.id FROM e JOIN webhooks w ON w.enabled AND e.type = ANY (w.events)
        AND (e.threshold IS NULL OR e.threshold = ANY (w.thresholds))
    ON CONFLICT DO NOTHING
), done AS (
    UPDATE webhook_events AS u SET dispatched = true FROM e WHERE u.id = e.id RETURNING 1
)
SELECT count(*) FROM done
"""

# The oldest attempts of each webhook, as many as it has free places. No transaction is open while a
# message is sent: a claim is a lease, after which another worker sends the message again.
_CLAIM = """
WITH due AS (
    SELECT d.* FROM webhooks w
    LEFT JOIN unnest($1::bigint[], $2::integer[]) AS busy (webhook_id, places) ON busy.webhook_id = w.id
    CROSS JOIN LATERAL (
        SELECT q.webhook_id, q.event_id FROM webhook_deliveries q
        WHERE q.webhook_id = w.id AND q.status = 'pending' AND q.next_attempt_at <= now()
        ORDER BY q.next_attempt_at LIMIT $3 - coalesce(busy.places, 0)
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE w.enabled AND coalesce(busy.places, 0) < $3
)
UPDATE webhook_deliveries d SET attempts = attempts + 1, last_attempt_at = clock_timestamp(),
    next_attempt_at = clock_timestamp() + $4::interval
FROM due
JOIN webhooks w ON w.id = due.webhook_id
JOIN webhook_events e ON e.id = due.event_id
WHERE d.webhook_id = due.webhook_id AND d.event_id = due.event_id
RETURNING d.webhook_id, w.url, w.secret,
    CASE WHEN w.previous_until > now() THEN w.previous_secret END AS previous_secret,
    d.attempts, e.id, e.type, e.host, e.link::text, e.created_at, e.threshold,
    e.visits
"""

# If the lease ran out, another attempt decides, unless this one delivered the message.
_SETTLE = """
UPDATE webhook_deliveries SET status = $3, response_status = $4, error = $5,
    next_attempt_at = clock_timestamp() + $6::interval
WHERE webhook_id = $1 AND event_id = $2 AND status = 'pending'
    AND (attempts = $7 OR $3 = 'delivered')
"""

_DISABLE = """
UPDATE webhooks SET enabled = false, disabled_reason = $2, version = version + 1,
    updated_at = clock_timestamp()
WHERE id = $1 AND enabled
"""

_LAG = """
SELECT w.id, extract(epoch FROM now() - d.next_attempt_at)::float8 AS seconds
FROM webhooks w CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM webhook_deliveries q
    WHERE q.webhook_id = w.id AND q.status = 'pending' ORDER BY next_attempt_at LIMIT 1
) d WHERE w.enabled
"""

_PURGE = """
WITH e AS (
    DELETE FROM webhook_events WHERE id IN (
        SELECT id FROM (SELECT id, created_at FROM webhook_events ORDER BY id LIMIT $2) AS oldest
        WHERE created_at < now() - $1::interval
    ) RETURNING id
), d AS (DELETE FROM webhook_deliveries USING e WHERE event_id = e.id)
SELECT count(*) FROM e
"""


_EXPIRY_POSITION = (
    "SELECT expires_at, link_id, now() AS now FROM webhook_expiries FOR UPDATE SKIP LOCKED"
)
_MOVE_EXPIRY_POSITION = "UPDATE webhook_expiries SET expires_at = $1, link_id = $2"
_EXPIRY_WANTED = "SELECT " + wanted("'link.expired'")
_EXPIRED = f"""
WITH l AS (
    SELECT * FROM links
    WHERE (expires_at, id) > ($1, $2) AND expires_at <= $3
    ORDER BY expires_at, id LIMIT $4
), e AS (
    INSERT INTO webhook_events (type, host, link, once)
    SELECT 'link.expired', d.host, {SNAPSHOT}, o.once
    FROM l JOIN domains d ON d.id = l.domain_id
    CROSS JOIN LATERAL (
        SELECT 'expired:' || l.id || ':' || extract(epoch FROM l.expires_at) AS once
    ) o
    WHERE l.deleted_at IS NULL AND NOT EXISTS (SELECT FROM webhook_events x WHERE x.once = o.once)
    ON CONFLICT DO NOTHING
)
SELECT expires_at, id FROM l ORDER BY expires_at DESC, id DESC LIMIT 1
"""  # noqa: S608  # constants only
_PAGE = 500

_LATE_COMMIT = timedelta(minutes=1)
"""Links that expired this long before the last search are searched again: a transaction that set
their expiry may have been committed since."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to send once: `attempt` counts from 1, `secrets` sign it."""

    webhook_id: int
    url: str
    secrets: tuple[str, ...]
    attempt: int
    event: Event


@dataclass(frozen=True, slots=True)
class Settlement:
    """The state of a delivery after an attempt."""

    status: str
    response_status: int | None
    error: str | None
    pause_s: float = 0.0


async def dispatch(connection: Connection, limit: int) -> int:
    """Make a delivery of each new event for each webhook that wants it; returns the events."""
    return int(await connection.fetchval(_DISPATCH, limit))


async def claim(
    connection: Connection, busy: Mapping[int, int], places: int, lease_s: float
) -> list[Claimed]:
    """Claim attempts that are due: up to `places` of each webhook, less those that are `busy`."""
    rows = await connection.fetch(
        _CLAIM, [*busy], [*busy.values()], places, timedelta(seconds=lease_s)
    )
    return [
        Claimed(
            row["webhook_id"],
            row["url"],
            (row["secret"], row["previous_secret"]) if row["previous_secret"] else (row["secret"],),
            row["attempts"],
            Event(
                row["id"],
                row["type"],
                row["host"],
                row["link"],
                row["created_at"],
                row["threshold"],
                row["visits"],
            ),
        )
        for row in rows
    ]


async def settle(connection: Connection, claimed: Claimed, settlement: Settlement) -> None:
    """Store the result of an attempt."""
    await connection.execute(
        _SETTLE,
        claimed.webhook_id,
        claimed.event.id,
        settlement.status,
        settlement.response_status,
        settlement.error,
        timedelta(seconds=settlement.pause_s),
        claimed.attempt,
    )


async def disable(connection: Connection, webhook_id: int, reason: str) -> None:
    """Disable a webhook; its pending deliveries wait until it is enabled again."""
    await connection.execute(_DISABLE, webhook_id, reason)


async def lag(connection: Connection) -> dict[int, float]:
    """Return the seconds since the oldest attempt of each enabled webhook has been due."""
    rows = await connection.fetch(_LAG)
    return {row["id"]: max(0.0, row["seconds"]) for row in rows}


async def purge(connection: Connection, retention_s: float, limit: int) -> int:
    """Delete old events with their deliveries; returns the number of events."""
    purged = await connection.fetchval(_PURGE, timedelta(seconds=retention_s), limit)
    return int(purged)


async def add_expired(connection: Connection) -> bool:
    """Add an event for links that have expired since the last call; returns whether more wait.

    Runs in a transaction of the caller. Each link gets one event per expiry time, however many
    workers run. Without a webhook that wants these events, only the position moves.
    """
    row = await connection.fetchrow(_EXPIRY_POSITION)
    if row is None:
        return False  # another worker is at it
    expires_at: datetime = row["expires_at"]
    link_id: int = row["link_id"]
    now: datetime = row["now"]
    if not await connection.fetchval(_EXPIRY_WANTED):
        await connection.execute(_MOVE_EXPIRY_POSITION, now, 0)
        return False
    last = await connection.fetchrow(_EXPIRED, expires_at, link_id, now, _PAGE)
    if last is not None:
        await connection.execute(_MOVE_EXPIRY_POSITION, *last)
        return True
    await connection.execute(_MOVE_EXPIRY_POSITION, now - _LATE_COMMIT, 0)
    return False
