"""The statements of the worker: the state of a stream, rollups, and the transaction that counts.

One transaction writes the rollups of a window of clicks, the marks of their sources, and the position
in the stream. So a click is counted once, whatever fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple

from shortcore.links.event_rows import SNAPSHOT
from shortcore.storage.postgres import Connection

MAX_REJECTED = 1000
"""Rejected entries that are kept in PostgreSQL; the oldest are deleted."""

REJECTED_LOCK = 7284
"""The advisory lock of transactions that store rejected entries."""

MARKS_KEPT_DAYS = 30
"""Time after which the mark of a redirector that sent nothing is deleted.

A redirector that is idle for longer seems to have lost batches when it sends again.
"""


# A link whose visits reach a threshold of a webhook is also an event. Without such a webhook, the
# second part finds no threshold and looks at no link.
_ADD_TO_LINK_TOTALS = f"""
WITH u AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
        AS u (link_id, clicks, visits, last_click_at)
), t AS (
    INSERT INTO link_totals AS old (link_id, clicks, visits, last_click_at)
    SELECT link_id, clicks, visits, last_click_at FROM u
    ON CONFLICT (link_id) DO UPDATE SET clicks = old.clicks + excluded.clicks,
        visits = old.visits + excluded.visits,
        last_click_at = greatest(old.last_click_at, excluded.last_click_at)
    RETURNING link_id, visits
)
INSERT INTO webhook_events (type, host, link, threshold, visits)
SELECT 'visits.threshold', d.host, {SNAPSHOT}, h.threshold, t.visits
FROM (
    SELECT DISTINCT unnest(thresholds) AS threshold FROM webhooks
    WHERE enabled AND 'visits.threshold' = ANY (events)
) AS h
JOIN t ON t.visits >= h.threshold
JOIN u ON u.link_id = t.link_id AND t.visits - u.visits < h.threshold
CROSS JOIN LATERAL (SELECT * FROM links WHERE id = t.link_id LIMIT 1) AS l
JOIN domains d ON d.id = l.domain_id
"""  # noqa: S608  # constants only


class RollupKey(NamedTuple):
    """What a rollup is about: a subject of a `Kind` on a UTC day.

    `kind` is a plain number, because a member of an enum takes long to hash.
    """

    kind: int
    subject: int
    day: date


class StoredRollup(NamedTuple):
    """The columns of a rollup."""

    clicks: int
    visits: int
    series: bytes
    breakdowns: bytes
    visitors: bytes


class LinkTotal(NamedTuple):
    """What a window adds to the totals of a link."""

    clicks: int
    visits: int
    last_click_ms: int


class RejectedEntry(NamedTuple):
    """An entry that cannot be counted, and why."""

    entry: str
    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """How far a stream has been counted: the last entry, its Redis server, the mark of each source."""

    position: str
    server: str
    marks: dict[bytes, int] = field(default_factory=dict)


class PositionChanged(Exception):
    """Another worker has counted the stream since its position was read: nothing may be written."""


async def read_state(connection: Connection, stream: int) -> StreamState:
    """Return the state of `stream`, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(
            "SELECT position, server FROM click_streams WHERE stream = $1", stream
        )
        marks = await connection.fetch(
            "SELECT source, number FROM click_sources WHERE stream = $1", stream
        )
    if row is None:
        raise PositionChanged
    return StreamState(row["position"], row["server"], {m["source"]: m["number"] for m in marks})


async def read_rollups(
    connection: Connection, stream: int, kind: int, day: date, subjects: Sequence[int]
) -> dict[RollupKey, StoredRollup]:
    """Return the stored rollups of `subjects`; those that do not exist are missing."""
    rows = await connection.fetch(
        "SELECT subject, clicks, visits, series, breakdowns, visitors FROM clicks_daily "
        "WHERE kind = $1 AND subject = ANY($2) AND day = $3 AND stream = $4",
        kind,
        subjects,
        day,
        stream,
    )
    return {RollupKey(kind, subject, day): StoredRollup(*columns) for subject, *columns in rows}


async def advance(
    connection: Connection, stream: int, old: StreamState, position: str, server: str
) -> None:
    """Move the stored position from `old` to `position` on `server`; first step of a transaction.

    Raises PositionChanged if `old` is not what is stored: another worker has counted the stream.
    """
    moved = await connection.fetchval(
        "UPDATE click_streams SET position = $4, server = $5 "
        "WHERE stream = $1 AND position = $2 AND server = $3 RETURNING true",
        stream,
        old.position,
        old.server,
        position,
        server,
    )
    if not moved:
        raise PositionChanged


async def save_marks(connection: Connection, stream: int, marks: Mapping[bytes, int]) -> None:
    """Store the number of the last counted batch of each source."""
    await connection.execute(
        "INSERT INTO click_sources (stream, source, number, seen_at) "
        "SELECT $1, source, number, clock_timestamp() "
        "FROM unnest($2::bytea[], $3::bigint[]) AS mark (source, number) "
        "ON CONFLICT (stream, source) DO UPDATE SET number = excluded.number, "
        "seen_at = excluded.seen_at",
        stream,
        list(marks),
        list(marks.values()),
    )


async def save_rollups(
    connection: Connection, stream: int, rollups: Sequence[tuple[RollupKey, StoredRollup]]
) -> None:
    """Store `rollups` in place of those that are stored."""
    keys = [key for key, _ in rollups]
    columns = [list(column) for column in zip(*(stored for _, stored in rollups), strict=True)]
    await connection.execute(
        "INSERT INTO clicks_daily "
        "(kind, subject, day, stream, clicks, visits, series, breakdowns, visitors) "
        "SELECT kind, subject, day, $1, clicks, visits, series, breakdowns, visitors "
        "FROM unnest($2::smallint[], $3::bigint[], $4::date[], $5::bigint[], $6::bigint[], "
        "$7::bytea[], $8::bytea[], $9::bytea[]) "
        "AS u (kind, subject, day, clicks, visits, series, breakdowns, visitors) "
        "ON CONFLICT (kind, subject, day, stream) DO UPDATE SET clicks = excluded.clicks, "
        "visits = excluded.visits, series = excluded.series, breakdowns = excluded.breakdowns, "
        "visitors = excluded.visitors",
        stream,
        [key.kind for key in keys],
        [key.subject for key in keys],
        [key.day for key in keys],
        *columns,
    )


async def add_to_link_totals(
    connection: Connection, totals: Sequence[tuple[int, LinkTotal]]
) -> None:
    """Add to the totals of links."""
    await connection.execute(
        _ADD_TO_LINK_TOTALS,
        [link_id for link_id, _ in totals],
        [total.clicks for _, total in totals],
        [total.visits for _, total in totals],
        [datetime.fromtimestamp(total.last_click_ms / 1000, UTC) for _, total in totals],
    )


async def save_rejected(
    connection: Connection, stream: int, rejected: Sequence[RejectedEntry]
) -> None:
    """Store entries that cannot be counted, and delete the oldest above MAX_REJECTED."""
    # One transaction after the other: two at once would not see each other's entries, and keep both.
    await connection.execute("SELECT pg_advisory_xact_lock($1)", REJECTED_LOCK)
    await connection.execute(
        "INSERT INTO clicks_rejected (stream, entry, reason, data) "
        "SELECT $1, entry, reason, data "
        "FROM unnest($2::text[], $3::text[], $4::bytea[]) AS u (entry, reason, data) "
        "ON CONFLICT (stream, entry) DO NOTHING",
        stream,
        [each.entry for each in rejected],
        [each.reason for each in rejected],
        [each.data for each in rejected],
    )
    await connection.execute(
        "DELETE FROM clicks_rejected WHERE id IN (SELECT id FROM clicks_rejected "
        "ORDER BY id DESC OFFSET $1 FOR UPDATE SKIP LOCKED)",
        MAX_REJECTED,
    )


async def delete_old_marks(connection: Connection) -> None:
    """Delete the marks of redirectors, and the heartbeats of workers, that no longer run."""
    await connection.execute(
        "DELETE FROM click_sources WHERE seen_at < clock_timestamp() - $1 * interval '1 day'",
        MARKS_KEPT_DAYS,
    )
    await connection.execute(
        "DELETE FROM click_workers WHERE seen_at < clock_timestamp() - interval '1 day'"
    )


async def read_links(
    connection: Connection, ids: Sequence[int]
) -> Iterable[tuple[int, int, int | None, list[str]]]:
    """Return id, domain id, owner and tags of each link that exists."""
    rows = await connection.fetch(
        "SELECT id, domain_id, owner, tags FROM links WHERE id = ANY($1)", ids
    )
    return [(row["id"], row["domain_id"], row["owner"], row["tags"]) for row in rows]


async def read_domains(connection: Connection, hosts: Sequence[str]) -> dict[str, int]:
    """Return the id of each domain that exists."""
    rows = await connection.fetch("SELECT host, id FROM domains WHERE host = ANY($1)", hosts)
    return {row["host"]: row["id"] for row in rows}


async def tag_ids(connection: Connection, tags: Sequence[str]) -> dict[str, int]:
    """Return the id of each tag in statistics; new tags get one."""
    await connection.execute(
        "INSERT INTO stats_tags (tag) SELECT tag FROM unnest($1::text[]) AS u (tag) "
        "WHERE NOT EXISTS (SELECT FROM stats_tags s WHERE s.tag = u.tag) "
        "ON CONFLICT (tag) DO NOTHING",
        tags,
    )
    rows = await connection.fetch("SELECT tag, id FROM stats_tags WHERE tag = ANY($1)", tags)
    return {row["tag"]: row["id"] for row in rows}
