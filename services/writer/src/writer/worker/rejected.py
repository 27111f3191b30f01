"""Rejected entries of click streams: what an operator reads and deletes."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from shortcore.storage.postgres import Connection


class Rejected(NamedTuple):
    """An entry that could not be read, with the bytes of its batch."""

    id: int
    stream: int
    entry: str
    reason: str
    rejected_at: datetime
    data: bytes


async def list_rejected(connection: Connection, after: int, limit: int) -> list[Rejected]:
    """Return up to `limit` entries with an id above `after`, oldest first."""
    rows = await connection.fetch(
        "SELECT id, stream, entry, reason, rejected_at, data FROM clicks_rejected "
        "WHERE id > $1 ORDER BY id LIMIT $2",
        after,
        limit,
    )
    return [Rejected(*row) for row in rows]


async def delete_rejected(connection: Connection, ids: Sequence[int]) -> None:
    """Delete the entries with these ids."""
    await connection.execute("DELETE FROM clicks_rejected WHERE id = ANY($1)", ids)
