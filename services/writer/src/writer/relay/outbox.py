"""The outbox in PostgreSQL: what must still reach Redis and the redirectors.

Rows are written in the transaction of the change and deleted in the transaction of the relay
that delivered them; `feed_position` and `republish` remember what Redis has been given, so that
a Redis that forgot some of it is noticed and given it again.

What is created in bulk has a lane of its own, so that no edit waits behind an import
(docs/adr/0013): rows of `outbox` from BULK on, and `outbox_many`, a row for many links.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from shortcore.cache.change_feed import START, Change, entry_order
from shortcore.links.record import LinkKey, LinkRecord, absent, link_key
from shortcore.links.row_mapping import RECORD_COLUMNS, Row, record_of
from shortcore.storage.postgres import Connection

CHANNEL = "shortlinks_outbox"
"""Writers notify it after a commit; relays listen."""

BACKLOG_COUNTED = 100_000
"""Rows of a lane that `backlog` counts at the most, so that it stays cheap when it matters."""

BULK = 1 << 62
"""Ids of rows of links created in bulk: BULK and their version, so that whoever claims the lowest
ids first, as relays of the release before do, comes to them last."""

SINGLE = (0, BULK - 1)
CHOSEN = (BULK, (1 << 63) - 1)
"""Ids of the two lanes: single changes, and links created in bulk whose codes somebody chose."""

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

_CLAIM_MANY = """
SELECT id, changed_at, (extract(epoch FROM created_at) * 1000)::bigint AS at_ms FROM outbox_many
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# A link that was changed since has another instant, and a row in `outbox`. Another COPY's links
# of the very same microsecond come along; the compare-and-set does not mind.
_MANY = f"""
SELECT d.host, l.code, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id WHERE l.updated_at = $1 AND NOT l.custom
"""  # noqa: S608  # RECORD_COLUMNS is a constant of ours

_CHANGED = f"""
SELECT d.host, l.code, l.domain_id, l.updated_at, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id
WHERE l.updated_at >= $1 AND (l.updated_at, l.domain_id, l.code) < ($2, $3, $4)
ORDER BY l.updated_at DESC, l.domain_id DESC, l.code DESC LIMIT $5
"""  # noqa: S608  # RECORD_COLUMNS is a constant of ours

_LANE = f"""(
    SELECT (
        SELECT count(*) FROM (
            SELECT 1 FROM outbox WHERE id BETWEEN {{0}} AND {{1}} LIMIT {BACKLOG_COUNTED}
        ) AS counted
    ) AS rows,
    coalesce((
        SELECT extract(epoch FROM clock_timestamp() - created_at)
        FROM outbox WHERE id BETWEEN {{0}} AND {{1}} ORDER BY id LIMIT 1
    ), 0)::float8 AS oldest_s
)"""  # noqa: S608  # a constant of ours

_BACKLOG = f"""
SELECT s.rows, s.oldest_s, b.rows + m.links AS bulk_links,
    greatest(b.oldest_s, m.oldest_s) AS bulk_oldest_s, s.rows + b.rows = 0 AS all_told
FROM {_LANE.format(*SINGLE)} AS s, {_LANE.format(*CHOSEN)} AS b, (
    SELECT coalesce(sum(links), 0) AS links,
        coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_s
    FROM outbox_many
) AS m
"""  # noqa: S608  # constants of ours


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows in hand: their ids, the newest record of each link, and what to tell the feed."""

    ids: Sequence[int]
    records: Sequence[tuple[LinkKey, LinkRecord]]
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Many:
    """A row of `outbox_many` in hand: when its links were made, and when we were told (Unix ms)."""

    id: int
    changed_at: datetime
    at_ms: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: rows of single changes and links created in bulk, each with its oldest's age.

    `rows` and the bulk's rows with chosen codes are counted up to BACKLOG_COUNTED. `all_told`
    says that no redirector has to hear of anything: nobody need be told of a generated code, as
    it proves itself (docs/adr/0007), so `outbox_many` does not count.
    """

    rows: int = 0
    oldest_s: float = 0.0
    bulk_links: int = 0
    bulk_oldest_s: float = 0.0
    all_told: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """The newest delivered entry of the feed, and the Redis that had it."""

    servers: str
    last: tuple[int, int]

    def restarted_as(self, seen: "Position") -> bool:
        """Say whether `seen` is of a Redis that started anew, empty or with all that it had."""
        whole = seen.last >= self.last
        return seen.servers != self.servers and (whole or seen.last == entry_order(START))


async def claim(connection: Connection, limit: int, lane: tuple[int, int] = SINGLE) -> Claim:
    """Lock up to `limit` of the oldest rows that no other relay holds, until the transaction ends.

    Several rows of one link become one change: its newest version, as of its oldest row.
    """
    return _collapse(await connection.fetch(_CLAIM, limit, *lane))


async def claim_many(connection: Connection) -> Many | None:
    """Lock the oldest row of `outbox_many` that no other relay holds; None without any."""
    row = await connection.fetchrow(_CLAIM_MANY)
    return None if row is None else Many(*row)


async def links_of(connection: Connection, many: Many, size: int) -> AsyncIterator[Claim]:
    """Yield the links of `many` as they are now, `size` at a time."""
    cursor = await connection.cursor(_MANY, many.changed_at)
    while rows := await cursor.fetch(size):
        records = [(link_key(row["host"], row["code"]), record_of(row)) for row in rows]
        yield Claim(
            (), records, [Change(key, record.version, many.at_ms) for key, record in records]
        )


async def settle(connection: Connection, ids: Sequence[int], entry: tuple[int, int]) -> None:
    """Delete the rows that feed entry `entry` delivered, and remember that entry."""
    await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", ids)
    await _remember(connection, entry)


async def settle_many(connection: Connection, many: Many, entry: tuple[int, int] | None) -> None:
    """Do it for a row of `outbox_many`; there is no entry where each link has changed since."""
    await connection.execute("DELETE FROM outbox_many WHERE id = $1", many.id)
    if entry is not None:
        await _remember(connection, entry)


async def backlog(connection: Connection) -> Backlog:
    """Return how much waits for a relay, and how long."""
    row = await connection.fetchrow(_BACKLOG)
    return Backlog(**row) if row else Backlog()


async def _remember(connection: Connection, entry: tuple[int, int]) -> None:
    await connection.execute(
        "UPDATE feed_position SET last_ms = $1, last_seq = $2 WHERE (last_ms, last_seq) < ($1, $2)",
        *entry,
    )


async def position(connection: Connection) -> Position | None:
    """Return the newest delivered entry, or None before the first relay ever ran."""
    row = await connection.fetchrow("SELECT servers, last_ms, last_seq FROM feed_position")
    return Position(row["servers"], (row["last_ms"], row["last_seq"])) if row else None


async def begin_position(connection: Connection, seen: Position) -> None:
    """Remember `seen` where nothing is remembered yet."""
    await connection.execute(
        "INSERT INTO feed_position (servers, last_ms, last_seq) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING",
        seen.servers,
        *seen.last,
    )


async def order_republish(connection: Connection, seen: Position, window_s: int) -> bool:
    """Take `seen` for the truth, and order what changed within `window_s` to be sent again.

    Returns False when another relay did so already. Call it inside a transaction.
    """
    moved = await connection.fetchval(
        "UPDATE feed_position SET servers = $1, last_ms = $2, last_seq = $3 "
        "WHERE servers <> $1 OR (last_ms, last_seq) > ($2, $3) RETURNING true",
        seen.servers,
        *seen.last,
    )
    if not moved:
        return False
    # One that is under way covers less than this one: what it has sent may be lost again.
    await connection.execute("DELETE FROM republish")
    await connection.execute(
        "INSERT INTO republish (oldest, updated_at) "
        "VALUES (now() - $1 * interval '1 second', clock_timestamp() + interval '1 minute')",
        window_s,
    )
    # No row of a link says that it was purged.
    await connection.execute(
        "INSERT INTO outbox (domain_id, host, code, version) "
        "SELECT domain_id, host, code, version FROM purged "
        "WHERE purged_at >= now() - $1 * interval '1 second'",
        window_s,
    )
    return True


async def forget_purged(connection: Connection, window_s: int) -> None:
    """Forget what was purged longer than `window_s` ago: no Redis holds it any more."""
    await connection.execute(
        "DELETE FROM purged WHERE purged_at < now() - $1 * interval '1 second'", window_s
    )


async def next_republish(connection: Connection, limit: int, now_ms: int) -> Claim | None:
    """Lock the order and return its next links, newest first; None without one at hand.

    With nothing left to send the order is deleted. Call it inside a transaction, and commit
    when Redis has taken the links: the order then stands behind them.
    """
    order = await connection.fetchrow("SELECT * FROM republish FOR UPDATE SKIP LOCKED")
    if order is None:
        return None
    rows = await connection.fetch(
        _CHANGED, order["oldest"], order["updated_at"], order["domain_id"], order["code"], limit
    )
    if not rows:
        await connection.execute("DELETE FROM republish")
        return None
    last = rows[-1]
    await connection.execute(
        "UPDATE republish SET updated_at = $1, domain_id = $2, code = $3",
        last["updated_at"],
        last["domain_id"],
        last["code"],
    )
    records = [(link_key(row["host"], row["code"]), record_of(row)) for row in rows]
    return Claim((), records, [Change(key, record.version, now_ms) for key, record in records])


def _collapse(rows: Sequence[Row]) -> Claim:
    records: dict[LinkKey, LinkRecord] = {}
    changes: dict[LinkKey, Change] = {}
    for row in rows:
        key = link_key(row["host"], row["outbox_code"])
        version = row["outbox_version"]
        if row["outbox_code"]:
            # Without its row the link was purged, at the version that the outbox tells.
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
