"""How long Redis keeps each kind of record."""

from dataclasses import dataclass

from shortcore.links.record import Kind, LinkRecord


@dataclass(frozen=True, slots=True)
class CacheTtls:
    """The TTLs of records in Redis, in milliseconds.

    `fill_max_age_ms` is the maximum age of a record when it is written to Redis, counted from its
    read in PostgreSQL.
    """

    link_ms: int
    negative_ms: int
    tombstone_ms: int
    fill_max_age_ms: int

    def ttl_ms(self, record: LinkRecord, now_ms: int, jitter: float) -> int:
        """Return the TTL of `record`: up to 10% shorter by `jitter` (0 to 1), and never past the link's expiry."""
        if record.version == 0:
            return self.negative_ms
        if record.kind in (Kind.DELETED, Kind.ABSENT):
            return self.tombstone_ms
        ttl = int(self.link_ms * (1 - jitter / 10))
        if record.expires_at_ms is not None and now_ms < record.expires_at_ms:
            ttl = min(ttl, record.expires_at_ms - now_ms)
        return max(ttl, 1)
