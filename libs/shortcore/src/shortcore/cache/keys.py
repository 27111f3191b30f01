"""The names of all keys in Redis.

Braces make the key of a link the hash tag of Redis Cluster, so that every script accesses one slot
(Redis Cluster specification, "hash tags").
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shortcore.links.record import LinkKey


@dataclass(frozen=True, slots=True)
class CacheKeys:
    """Key names under one prefix, so that several installations can share a server."""

    prefix: str

    def link(self, key: LinkKey) -> str:
        """Return the key of a link's record."""
        return self.links((key,))[0]

    def links(self, keys: Iterable[LinkKey]) -> list[str]:
        """Return the keys of many links' records."""
        start = f"{self.prefix}l:{{"
        return [f"{start}{key}}}" for key in keys]

    @property
    def changes(self) -> str:
        """The key of the change feed (a stream)."""
        return f"{self.prefix}changes"

    @property
    def domains(self) -> str:
        """The key of the copy of the domain table (a string)."""
        return f"{self.prefix}domains"

    def clicks(self, partition: int) -> str:
        """Return the key of a click stream."""
        return f"{self.prefix}clicks:{{{partition}}}"

    def throttle(self, key: LinkKey, client: str) -> str:
        """Return the key of the counter of a client's wrong passwords for a link."""
        return f"{self.prefix}t:{{{key}}}:{client}"

    def pace(self, key: LinkKey) -> str:
        """Return the key of the schedule of a link's password checks."""
        return f"{self.prefix}p:{{{key}}}"
