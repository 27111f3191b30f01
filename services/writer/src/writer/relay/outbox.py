"""The outbox in PostgreSQL: the changes that must still reach Redis and the redirectors.

A row is written in the transaction of its change, and deleted in the transaction of the relay
that delivered it.

Links created in bulk have their own queue, so that no edit waits behind an import
(docs/adr/0013): the rows of `outbox` from the id BULK on, and `outbox_many`, whose rows stand for
many links each.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from shortcore.cache.change_feed import Change
from shortcore.links.record import LinkKey, LinkRecord, absent, link_key
from shortcore.links.row_mapping import RECORD_COLUMNS, Row, record_of
from shortcore.storage.postgres import Connection
from writer.relay.feed_position import advance_position

CHANNEL = "shortlinks_outbox"
"""The channel of NOTIFY: writers notify it after a commit, relays listen to it."""

MAX_COUNTED = 100_000
"""Rows of a queue that `read_backlog` counts at most, so that it stays cheap with a large backlog."""

BULK = 1 << 62
"""Rows of links created in bulk have the id BULK + version. A relay of the previous release claims
the lowest ids first, so it delivers these rows last."""

SINGLE_CHANGES = (0, BULK - 1)
BULK_CUSTOM_CODES = (BULK, (1 << 63) - 1)
"""The ids of the two queues in `outbox`: single changes, and custom codes created in bulk."""

_CLAIM = f"""
WITH claimed AS (
    SELECT id, domain_id, host, code, version, created_at FROM outbox
    WHERE id BETWEEN $2 AND $3 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
)
SELECT c.id AS outbox_id, c.host, c.code AS outbox_code, c.version AS outbox_version,
    (extract(epoch FROM c.created_at) * 1000)::bigint AS at_ms, {RECORD_COLUMNS}
FROM claimed c LEFT JOIN links l ON l.domain_id = c.domain_id AND l.code = c.code
ORDER BY c.id
"""  # noqa: S608  # RECORD_COLUMNS is a constant of ours

_CLAIM_COPY = """
SELECT id, changed_at, (extract(epoch FROM created_at) * 1000)::bigint AS at_ms FROM outbox_many
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# A link that was changed since then has another timestamp, and its own row in `outbox`. The query
# also returns the links of another COPY in the same microsecond; the compare-and-set makes that
# harmless.
_COPIED = f"""
SELECT d.host, l.code, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id WHERE l.updated_at = $1 AND NOT l.custom
"""  # noqa: S608  # RECORD_COLUMNS is a constant of ours

_QUEUE = f"""(
    SELECT (
        SELECT count(*) FROM (
            SELECT 1 FROM outbox WHERE id BETWEEN {{0}} AND {{1}} LIMIT {MAX_COUNTED}
        ) AS counted
    ) AS rows,
    coalesce((
        SELECT extract(epoch FROM clock_timestamp() - created_at)
        FROM outbox WHERE id BETWEEN {{0}} AND {{1}} ORDER BY id LIMIT 1
    ), 0)::float8 AS oldest_s
)"""  # noqa: S608  # a constant of ours

_BACKLOG = f"""
SELECT s.rows, s.oldest_s, b.rows + m.links AS bulk_links,
    greatest(b.oldest_s, m.oldest_s) AS bulk_oldest_s, s.rows + b.rows = 0 AS feed_complete
FROM {_QUEUE.format(*SINGLE_CHANGES)} AS s, {_QUEUE.format(*BULK_CUSTOM_CODES)} AS b, (
    SELECT coalesce(sum(links), 0) AS links,
        coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
    FROM outbox_many
) AS m
"""  # noqa: S608  # constants of ours


@dataclass(frozen=True, slots=True)
class Claim:
    """Claimed rows: their ids, the newest record of each link, and the changes for the feed."""

    ids: Sequence[int]
    records: Sequence[tuple[LinkKey, LinkRecord]]
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class CopyClaim:
    """A claimed row of `outbox_many`: the timestamp of its links, and its own time (Unix ms)."""

    id: int
    changed_at: datetime
    at_ms: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog of a relay: counts of single changes and of bulk-created links, and their age.

    Each queue in `outbox` is counted up to MAX_COUNTED. `feed_complete` says that no change waits
    that redirectors must receive. `outbox_many` does not count there: redirectors can verify its
    generated codes themselves (docs/adr/0007).
    """

    rows: int = 0
    oldest_s: float = 0.0
    bulk_links: int = 0
    bulk_oldest_s: float = 0.0
    feed_complete: bool = False


async def claim(
    connection: Connection, limit: int, queue: tuple[int, int] = SINGLE_CHANGES
) -> Claim:
    """Lock up to `limit` of the oldest free rows of a queue until the transaction ends.

    Several rows of one link become one change: the newest version, with the time of the oldest
    row.
    """
    return _collapse(await connection.fetch(_CLAIM, limit, *queue))


async def claim_copy(connection: Connection) -> CopyClaim | None:
    """Lock the oldest free row of `outbox_many`; returns None if there is none."""
    row = await connection.fetchrow(_CLAIM_COPY)
    return None if row is None else CopyClaim(*row)


async def links_of(connection: Connection, copy: CopyClaim, size: int) -> AsyncIterator[Claim]:
    """Yield the links of `copy` as they are now, `size` at a time."""
    cursor = await connection.cursor(_COPIED, copy.changed_at)
    while rows := await cursor.fetch(size):
        records = [(link_key(row["host"], row["code"]), record_of(row)) for row in rows]
        yield Claim(
            (), records, [Change(key, record.version, copy.at_ms) for key, record in records]
        )


async def settle(connection: Connection, ids: Sequence[int], entry: tuple[int, int]) -> None:
    """Delete the rows that feed entry `entry` has delivered, and store that entry."""
    await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", ids)
    await advance_position(connection, entry)


async def settle_copy(
    connection: Connection, copy: CopyClaim, entry: tuple[int, int] | None
) -> None:
    """Delete a row of `outbox_many`; `entry` is None if every link has changed since then."""
    await connection.execute("DELETE FROM outbox_many WHERE id = $1", copy.id)
    if entry is not None:
        await advance_position(connection, entry)


async def read_backlog(connection: Connection) -> Backlog:
    """Return the size of the backlog and the age of its oldest rows."""
    row = await connection.fetchrow(_BACKLOG)
    return Backlog(**row) if row else Backlog()


def _collapse(rows: Sequence[Row]) -> Claim:
    records: dict[LinkKey, LinkRecord] = {}
    changes: dict[LinkKey, Change] = {}
    for row in rows:
        key = link_key(row["host"], row["outbox_code"])
        version = row["outbox_version"]
        if row["outbox_code"]:
            # A link without a row was purged, at the version in the outbox.
            record = absent(version) if row["version"] is None else record_of(row)
            if key not in records or records[key].version < record.version:
                records[key] = record
            version = records[key].version
        known = changes.get(key)
        changes[key] = (
            Change(key, version, row["at_ms"])
            if known is None
            else Change(key, max(version, known.version), min(row["at_ms"], known.at_ms))
        )
    return Claim([row["outbox_id"] for row in rows], list(records.items()), list(changes.values()))
