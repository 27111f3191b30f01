"""Leases: which worker reads which click stream.

Workers share the streams evenly. Each worker renews its leases with a heartbeat, and computes its share
from the list of workers with a recent heartbeat. All times are those of PostgreSQL's clock.

A lease saves work and guarantees nothing: a worker whose lease has expired may still write. Its commit
is rolled back if another worker has counted the stream meanwhile (`repository.advance`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shortcore.storage.postgres import Connection

_HEARTBEAT = """
INSERT INTO click_workers (worker, seen_at) VALUES ($1, clock_timestamp())
ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at
"""
_LIVE = """
SELECT worker FROM click_workers
WHERE seen_at > clock_timestamp() - $1 * interval '1 second' ORDER BY worker
"""
_CREATE = """
INSERT INTO click_streams (stream) SELECT generate_series(0, $1::int - 1)
ON CONFLICT DO NOTHING
"""
# A stream whose row is locked is being committed. Its lease is renewed next time, instead of making
# the leases of all other streams wait for the end of that transaction.
_RENEW = """
UPDATE click_streams SET lease_until = clock_timestamp() + $2 * interval '1 second'
WHERE stream IN (SELECT stream FROM click_streams WHERE owner = $1 FOR UPDATE SKIP LOCKED)
"""
_OWNERS = "SELECT stream, owner FROM click_streams ORDER BY stream"
_TAKE = """
UPDATE click_streams SET owner = $1, lease_until = clock_timestamp() + $2 * interval '1 second'
WHERE stream IN (
    SELECT stream FROM click_streams
    WHERE owner IS NULL OR lease_until < clock_timestamp()
    ORDER BY stream LIMIT $3 FOR UPDATE SKIP LOCKED
)
RETURNING stream
"""
_RELEASE = """
UPDATE click_streams SET owner = NULL, lease_until = NULL WHERE owner = $1 AND stream = ANY($2)
"""


@dataclass(frozen=True, slots=True)
class Share:
    """The streams that a worker holds leases of, and those of them that it should release."""

    owned: frozenset[int]
    excess: frozenset[int]


class Leases:
    """The leases of one worker."""

    def __init__(self, worker: str, *, partitions: int, lease_s: int) -> None:
        self._worker = worker
        self._partitions = partitions
        self._lease_s = lease_s

    async def renew(self, connection: Connection) -> Share:
        """Send a heartbeat, renew all leases, and take streams up to this worker's share.

        The worker reads every stream that PostgreSQL knows. So if `clicks_partitions` is reduced,
        what the former streams hold is still counted.
        """
        await connection.execute(_HEARTBEAT, self._worker)
        live = [row["worker"] for row in await connection.fetch(_LIVE, self._lease_s)]
        await connection.execute(_RENEW, self._worker, self._lease_s)
        owners = await self._owners(connection)
        if not owners.keys() >= set(range(self._partitions)):
            await connection.execute(_CREATE, self._partitions)
            owners = await self._owners(connection)
        owned = {stream for stream, owner in owners.items() if owner == self._worker}
        share = share_of(self._worker, live, len(owners))
        if len(owned) < share:
            rows = await connection.fetch(_TAKE, self._worker, self._lease_s, share - len(owned))
            owned |= {row["stream"] for row in rows}
        return Share(frozenset(owned), frozenset(sorted(owned)[share:]))

    async def release(self, connection: Connection, streams: Collection[int]) -> None:
        """Give up the leases of `streams`, so that other workers can take them at once."""
        await connection.execute(_RELEASE, self._worker, list(streams))

    async def leave(self, connection: Connection) -> None:
        """Give up all leases and end the heartbeats."""
        await connection.execute(
            "UPDATE click_streams SET owner = NULL, lease_until = NULL WHERE owner = $1",
            self._worker,
        )
        await connection.execute("DELETE FROM click_workers WHERE worker = $1", self._worker)

    async def _owners(self, connection: Connection) -> dict[int, str | None]:
        return {row["stream"]: row["owner"] for row in await connection.fetch(_OWNERS)}


def share_of(worker: str, live: Sequence[str], streams: int) -> int:
    """Return how many of `streams` the worker should read; the shares of all workers add up."""
    if worker not in live:
        return 0
    share, rest = divmod(streams, len(live))
    return share + (live.index(worker) < rest)
