"""The feed position in PostgreSQL: the newest entry of the change feed that a relay has settled.

A change feed that ends before this position, or a different Redis, shows that Redis may have
lost changes.
"""

from dataclasses import dataclass

from shortcore.cache.change_feed import START, entry_order
from shortcore.storage.postgres import Connection


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """An entry of the change feed, and the Redis servers that have it."""

    servers: str
    last: tuple[int, int]

    def is_restart(self, seen: "FeedPosition") -> bool:
        """Return whether `seen` is a Redis that has restarted, empty or without any loss."""
        complete = seen.last >= self.last
        return seen.servers != self.servers and (complete or seen.last == entry_order(START))


async def read_position(connection: Connection) -> FeedPosition | None:
    """Return the stored position, or None if no relay has stored one yet."""
    row = await connection.fetchrow("SELECT servers, last_ms, last_seq FROM feed_position")
    return FeedPosition(row["servers"], (row["last_ms"], row["last_seq"])) if row else None


async def insert_position(connection: Connection, seen: FeedPosition) -> None:
    """Store `seen` unless a position is stored already."""
    await connection.execute(
        "INSERT INTO feed_position (servers, last_ms, last_seq) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING",
        seen.servers,
        *seen.last,
    )


async def advance_position(connection: Connection, entry: tuple[int, int]) -> None:
    """Move the position forward to `entry`; it never moves back."""
    await connection.execute(
        "UPDATE feed_position SET last_ms = $1, last_seq = $2 WHERE (last_ms, last_seq) < ($1, $2)",
        *entry,
    )


async def reset_position(connection: Connection, seen: FeedPosition) -> bool:
    """Store `seen` if it is another Redis or an earlier entry; returns whether it was stored."""
    reset = await connection.fetchval(
        "UPDATE feed_position SET servers = $1, last_ms = $2, last_seq = $3 "
        "WHERE servers <> $1 OR (last_ms, last_seq) > ($2, $3) RETURNING true",
        seen.servers,
        *seen.last,
    )
    return bool(reset)
