"""Keeps the monthly partitions of clicks_daily: creates those that are needed, drops old ones.

Any number of workers may do this at once. An advisory lock lets one after another work, and each finds
done what the others have done. No statement here keeps a reader waiting for more than LOCK_TIMEOUT_MS.
"""

import re
from datetime import date, timedelta

from shortcore.storage.postgres import Connection

LOCK_TIMEOUT_MS = 1000
"""Timeout of a lock. DROP TABLE blocks all reads of statistics, also while it waits for its lock."""

CREATE_TIMEOUT_MS = 10_000
"""Timeout of the locks of ensure_partitions, which block neither reads nor writes."""

ORPHANS_PER_STEP = 20_000
"""Rows of link_totals that one statement looks at. It takes half a second if all of them are deleted."""

_ADVISORY_LOCK = 7283001

_PARTITION = re.compile(r"clicks_daily_(\d{4})_(0[1-9]|1[0-2])", re.ASCII)

_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'clicks_daily'::regclass ORDER BY c.relname
"""

# It never waits for a row: a worker that adds to the totals of a purged link could wait for another row.
_DELETE_ORPHANS = """
WITH looked_at AS MATERIALIZED (
    SELECT link_id FROM link_totals WHERE link_id > $1 ORDER BY link_id LIMIT $2
), orphans AS (
    SELECT t.link_id FROM looked_at JOIN link_totals t USING (link_id)
    WHERE t.last_click_at < clock_timestamp() - interval '1 day'
        AND NOT EXISTS (SELECT FROM links WHERE links.id = looked_at.link_id)
    FOR UPDATE OF t SKIP LOCKED
), deleted AS (
    DELETE FROM link_totals t USING orphans WHERE t.link_id = orphans.link_id RETURNING t.link_id
)
SELECT (SELECT count(*) FROM deleted) AS deleted, (SELECT max(link_id) FROM looked_at) AS last
"""


async def ensure_partitions(connection: Connection, first_day: date, last_day: date) -> int:
    """Create the missing partitions of the months from `first_day` to `last_day`.

    Returns their number. Must not be called within a transaction. Reads and writes go on: ATTACH
    PARTITION takes a lock that only other changes of the table conflict with.
    """
    created = 0
    async with connection.transaction():
        await _lock(connection, CREATE_TIMEOUT_MS)
        existing = await _months(connection)
        month = first_day.replace(day=1)
        while month <= last_day:
            after = _next_month(month)
            if month not in existing:
                name = _name(month)
                # Rows of the current day are updated in place if their page has room.
                await connection.execute(
                    f"CREATE TABLE {name} (LIKE clicks_daily INCLUDING DEFAULTS) WITH (fillfactor = 80)"
                )
                await connection.execute(
                    f"ALTER TABLE clicks_daily ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{month}') TO ('{after}')"
                )
                created += 1
            month = after
    return created


async def drop_oldest(connection: Connection, keep_days: int, today: date) -> str | None:
    """Drop the partition of the oldest month, if that ended `keep_days` days before `today` or earlier.

    Returns its name, or None if no month is so old. 0 days keep all. Raises
    asyncpg.LockNotAvailableError if statistics are being read or written without a pause: try again.
    Must not be called within a transaction.
    """
    if not keep_days:
        return None
    async with connection.transaction():
        await _lock(connection, LOCK_TIMEOUT_MS)
        month = min(await _months(connection), default=today)
        if _next_month(month) > today - timedelta(days=keep_days):
            return None
        await connection.execute(f"DROP TABLE {_name(month)}")
    return _name(month)


async def delete_orphans(connection: Connection, after: int) -> tuple[int, int | None]:
    """Delete totals of links that were purged, among the next ORPHANS_PER_STEP totals after a link id.

    A link that had a click within a day is left out: more of its clicks may wait in a stream.

    Returns how many were deleted, and the last id that was looked at: None at the end.
    """
    row = await connection.fetchrow(_DELETE_ORPHANS, after, ORPHANS_PER_STEP)
    return (row["deleted"], row["last"]) if row else (0, None)


async def _lock(connection: Connection, timeout_ms: int) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = {timeout_ms}")
    await connection.execute(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")


async def _months(connection: Connection) -> set[date]:
    """Return the months that have a partition. Partitions of other names are an operator's."""
    names = [row["relname"] for row in await connection.fetch(_PARTITIONS)]
    found = [match for name in names if (match := _PARTITION.fullmatch(name))]
    return {date(int(match[1]), int(match[2]), 1) for match in found}


def _name(month: date) -> str:
    return f"clicks_daily_{month.year:04}_{month.month:02}"


def _next_month(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)
