"""The republish order in PostgreSQL: which links to send again after Redis lost changes."""

from shortcore.cache.change_feed import Change
from shortcore.links.record import link_key
from shortcore.links.row_mapping import RECORD_COLUMNS, record_of
from shortcore.storage.postgres import Connection
from writer.relay.feed_position import FeedPosition, reset_position
from writer.relay.outbox import Claim

_CHANGED = f"""
SELECT d.host, l.code, l.domain_id, l.updated_at, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id
WHERE l.updated_at >= $1 AND (l.updated_at, l.domain_id, l.code) < ($2, $3, $4)
ORDER BY l.updated_at DESC, l.domain_id DESC, l.code DESC LIMIT $5
"""  # noqa: S608  # RECORD_COLUMNS is a constant of ours


async def order_republish(connection: Connection, seen: FeedPosition, window_s: int) -> bool:
    """Accept `seen` as the feed position, and order that recent changes are sent again.

    The order covers what changed within `window_s`. Returns False if another relay has ordered
    the same already. Call it inside a transaction.
    """
    if not await reset_position(connection, seen):
        return False
    # An order that is being carried out covers less than this one: Redis may have lost what the
    # order has sent already.
    await connection.execute("DELETE FROM republish")
    await connection.execute(
        "INSERT INTO republish (oldest, updated_at) "
        "VALUES (now() - $1 * interval '1 second', clock_timestamp() + interval '1 minute')",
        window_s,
    )
    # Purged links have no row in `links`.
    await connection.execute(
        "INSERT INTO outbox (domain_id, host, code, version) "
        "SELECT domain_id, host, code, version FROM purged "
        "WHERE purged_at >= now() - $1 * interval '1 second'",
        window_s,
    )
    return True


async def delete_old_purges(connection: Connection, window_s: int) -> None:
    """Delete the records of purges older than `window_s`: Redis no longer has these links."""
    await connection.execute(
        "DELETE FROM purged WHERE purged_at < now() - $1 * interval '1 second'", window_s
    )


async def next_republish(connection: Connection, limit: int, now_ms: int) -> Claim | None:
    """Lock the order and return its next links, newest first; None if there is no free order.

    Deletes the order if no link is left. Call it inside a transaction and commit once Redis has
    the links: the order then continues after them.
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
