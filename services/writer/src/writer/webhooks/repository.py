"""All SQL about webhooks and the list of their deliveries. `writer.worker.webhooks` delivers them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from shortcore.storage.postgres import Connection

MAX_WEBHOOKS = 50
"""Maximum number of webhooks. Each may have several connections of a worker at a time."""

_LOCK = 7_236_003  # a create counts the webhooks

_COLUMNS = """id, url, events, thresholds, description, enabled, disabled_reason,
    CASE WHEN previous_until > now() THEN previous_until END AS previous_until, version, created_at,
    updated_at"""
_ALL = f"SELECT {_COLUMNS} FROM webhooks ORDER BY id"  # noqa: S608  # constants only
_ONE = f"SELECT {_COLUMNS} FROM webhooks WHERE id = $1"  # noqa: S608  # constants only
_ADD = f"""INSERT INTO webhooks (url, events, thresholds, description, enabled, secret)
SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM webhooks) < {MAX_WEBHOOKS}
RETURNING {_COLUMNS}"""  # noqa: S608  # constants only
_SAVE = f"""UPDATE webhooks SET url = $2, events = $3, thresholds = $4, description = $5,
    enabled = $6, disabled_reason = CASE WHEN NOT $6 THEN disabled_reason END, version = version + 1,
    updated_at = clock_timestamp()
WHERE id = $1 RETURNING {_COLUMNS}"""  # noqa: S608  # constants only
_ROTATE = f"""UPDATE webhooks SET secret = $2, previous_secret = secret,
    previous_until = now() + interval '24 hours', version = version + 1,
    updated_at = clock_timestamp()
WHERE id = $1 RETURNING {_COLUMNS}"""  # noqa: S608  # constants only
_REMOVE = "DELETE FROM webhooks WHERE id = $1 RETURNING true"

_DELIVERY = """e.id, e.type, e.created_at, d.status, d.attempts, d.last_attempt_at,
    CASE WHEN d.status = 'pending' THEN d.next_attempt_at END AS next_attempt_at,
    d.response_status, d.error"""
_DELIVERIES = f"""SELECT {_DELIVERY}
FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id
WHERE d.webhook_id = $1 AND d.event_id < $2 AND ($3::text IS NULL OR d.status = $3)
ORDER BY d.event_id DESC LIMIT $4"""  # noqa: S608  # constants only
_ADD_PING = f"""WITH e AS (
    INSERT INTO webhook_events (type, host, dispatched) VALUES ($2, '', true) RETURNING *
), d AS (
    INSERT INTO webhook_deliveries (webhook_id, event_id) SELECT $1, id FROM e RETURNING *
) SELECT {_DELIVERY} FROM d JOIN e ON e.id = d.event_id"""  # noqa: S608  # constants only

_AGAIN = "status = 'pending', attempts = 0, next_attempt_at = clock_timestamp()"
_REPLAY = f"""WITH d AS (
    UPDATE webhook_deliveries AS u SET {_AGAIN} FROM webhook_events e
    WHERE u.webhook_id = $1 AND u.event_id = $2 AND e.id = u.event_id AND e.created_at = $3
        AND u.status <> 'pending'
    RETURNING u.*
) SELECT {_DELIVERY} FROM d JOIN webhook_events e ON e.id = d.event_id"""  # noqa: S608  # constants only
_FIND = f"""SELECT {_DELIVERY} FROM webhook_deliveries d JOIN webhook_events e ON e.id = d.event_id
WHERE d.webhook_id = $1 AND d.event_id = $2 AND e.created_at = $3"""  # noqa: S608  # constants only
_REPLAY_DEAD = f"""WITH dead AS (
    SELECT event_id FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'dead'
    ORDER BY event_id LIMIT $2 FOR UPDATE
), u AS (
    UPDATE webhook_deliveries AS d SET {_AGAIN} FROM dead
    WHERE d.webhook_id = $1 AND d.event_id = dead.event_id RETURNING 1
) SELECT count(*) FROM u"""  # noqa: S608  # constants only


@dataclass(frozen=True, slots=True)
class WebhookValues:
    """The settable fields of a webhook."""

    url: str
    events: Sequence[str]
    thresholds: Sequence[int]
    description: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook without its secrets."""

    id: int
    url: str
    events: Sequence[str]
    thresholds: Sequence[int]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    previous_until: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def values(self) -> WebhookValues:
        """The settable fields."""
        return WebhookValues(self.url, self.events, self.thresholds, self.description, self.enabled)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of one event to one webhook."""

    event_id: int
    type: str
    created_at: datetime
    status: str
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    response_status: int | None
    error: str | None


async def list_webhooks(connection: Connection) -> list[Webhook]:
    """Return all webhooks, oldest first."""
    return [Webhook(*row) for row in await connection.fetch(_ALL)]


async def find_webhook(
    connection: Connection, webhook_id: int, *, lock: bool = False
) -> Webhook | None:
    """Return one webhook; `lock` locks it until the transaction ends."""
    return _webhook(await connection.fetchrow(_ONE + " FOR UPDATE" if lock else _ONE, webhook_id))


async def add_webhook(connection: Connection, values: WebhookValues, secret: str) -> Webhook | None:
    """Add a webhook in the caller's transaction; returns None if there are MAX_WEBHOOKS already."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    return _webhook(await connection.fetchrow(_ADD, *_columns(values), secret))


async def save_webhook(connection: Connection, webhook_id: int, values: WebhookValues) -> Webhook:
    """Write the values of a locked webhook."""
    row = await connection.fetchrow(_SAVE, webhook_id, *_columns(values))
    return Webhook(*row)  # type: ignore[misc]  # the row is locked, so it exists


async def rotate_secret(connection: Connection, webhook_id: int, secret: str) -> Webhook | None:
    """Set a new secret; the previous one signs for a day as well."""
    return _webhook(await connection.fetchrow(_ROTATE, webhook_id, secret))


async def remove_webhook(connection: Connection, webhook_id: int) -> bool:
    """Remove a webhook; returns whether it existed. The purge removes its deliveries later."""
    return bool(await connection.fetchval(_REMOVE, webhook_id))


async def list_deliveries(
    connection: Connection, webhook_id: int, before: int, status: str | None, limit: int
) -> list[Delivery]:
    """Return the deliveries of a webhook with an event id below `before`, newest first."""
    rows = await connection.fetch(_DELIVERIES, webhook_id, before, status, limit)
    return [Delivery(*row) for row in rows]


async def add_ping(connection: Connection, webhook_id: int, event: str) -> Delivery:
    """Add an event without a link, for this webhook only."""
    row = await connection.fetchrow(_ADD_PING, webhook_id, event)
    return Delivery(*row)  # type: ignore[misc]  # an insert without a condition returns its row


async def replay(
    connection: Connection, webhook_id: int, event_id: int, created_at: datetime
) -> Delivery | None:
    """Make a delivery due again, unless it is pending; returns it, or None if it does not exist."""
    row = await connection.fetchrow(_REPLAY, webhook_id, event_id, created_at)
    if row is None:
        row = await connection.fetchrow(_FIND, webhook_id, event_id, created_at)
    return None if row is None else Delivery(*row)


async def replay_dead(connection: Connection, webhook_id: int, limit: int) -> int:
    """Make up to `limit` dead deliveries due again, oldest first; returns how many."""
    return int(await connection.fetchval(_REPLAY_DEAD, webhook_id, limit))


def _webhook(row: asyncpg.Record | None) -> Webhook | None:
    return None if row is None else Webhook(*row)


def _columns(values: WebhookValues) -> tuple[object, ...]:
    return (
        values.url,
        [*values.events],
        [*values.thresholds],
        values.description,
        values.enabled,
    )
