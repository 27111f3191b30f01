"""Bounds the bytes of all requests of one listener that have begun to arrive and are not complete yet.

Each connection has its own bounds, but thousands of connections below those bounds could together fill
the memory.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

FIELD_BYTES = 200
"""Memory of a header field in addition to its text: a tuple and two objects."""

Key = TypeVar("Key", bound=Hashable)


class IncompleteRequests(Generic[Key]):
    """The size of each incomplete request by its connection, in the order in which they began."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[Key, int] = {}
        self.bytes = 0

    def add(self, connection: Key, size: int, *, begins: bool) -> None:
        """Add `size` bytes to the request of `connection`, or to a new one that `begins`."""
        known = self._sizes.pop(connection, 0) if begins else self._sizes.get(connection, 0)
        new = size if begins else known + size
        self.bytes += new - known
        self._sizes[connection] = new

    def drop(self, connection: Key) -> None:
        """Forget the request of `connection`, if it has one."""
        self.bytes -= self._sizes.pop(connection, 0)

    def excess(self) -> Key | None:
        """Remove and return the connection whose request began first, if there are too many bytes.

        A request that makes progress is complete soon, so the oldest one is delayed by its client. A
        single request is never too large, as it has its own bounds.
        """
        if self.bytes <= self._max_bytes or len(self._sizes) == 1:
            return None
        first = next(iter(self._sizes))
        self.drop(first)
        return first
