"""Reads how far each click stream is counted and which worker reads it, for operators."""

from typing import NamedTuple

from shortcore.cache.change_feed import START, entry_order
from shortcore.storage.postgres import Connection
from shortcore.storage.redis import Client


class StreamReading(NamedTuple):
    """The last counted entry of a stream, and the worker with a valid lease of it, if any."""

    stream: int
    position: str
    owner: str | None


async def read_streams(connection: Connection, partitions: int) -> list[StreamReading]:
    """Return the state of every stream, also of those that no worker has read yet."""
    rows = await connection.fetch(
        "SELECT stream, position, CASE WHEN lease_until > clock_timestamp() THEN owner END AS owner "
        "FROM click_streams"
    )
    found = {row["stream"]: StreamReading(*row) for row in rows}
    streams = sorted(found.keys() | set(range(partitions)))
    return [found.get(stream, StreamReading(stream, START, None)) for stream in streams]


async def waiting_since_ms(client: Client, name: str, position: str) -> int | None:
    """Return when Redis took the oldest entry of a stream after `position`; None if there is none.

    A stream that ends before `position` is another one, which will be read from its start.
    """
    first = await client.xrange(name, min=f"({position}", count=1)
    if not first:
        last = await client.xrevrange(name, count=1)
        if last and _order(last[0][0]) < entry_order(position):
            first = await client.xrange(name, count=1)
    return _order(first[0][0])[0] if first else None


def _order(entry_id: object) -> tuple[int, int]:
    return entry_order(entry_id.decode("ascii") if isinstance(entry_id, bytes) else str(entry_id))
