"""The newest versions seen of keys that are no longer cached, in a table of fixed size.

A set-associative table in one block of memory: 16 bytes a floor (the key's hash and the version),
where a dict takes two hundred. A key has its place in one bucket; in a full bucket the one that was
remembered first is forgotten. There is room for twice as many as are asked for, so that hardly one
of those goes before its time because its bucket was popular.
"""

from struct import Struct

from shortcore.links import LinkKey

_TAG = Struct("<q")
_CELL = Struct("<qq")
_FREE = bytes(_CELL.size)
_WAYS = 16
_BUCKET = _WAYS * _CELL.size


class Floors:
    """Versions by key: nearly always the last `room` that were remembered, and some before them."""

    def __init__(self, room: int) -> None:
        self._buckets = -(-2 * room // _WAYS)
        self._table = bytearray(self._buckets * _BUCKET)  # no memory is taken before it is used

    def get(self, key: LinkKey) -> int:
        """Return the floor of `key`, 0 if none is remembered."""
        at = self._find(key)
        return 0 if at is None else int(_CELL.unpack_from(self._table, at)[1])

    def remember(self, key: LinkKey, version: int) -> None:
        """Let `version` (above 0) be the floor of `key`."""
        table, size = self._table, _CELL.size
        tag = hash(key) or 1
        start = tag % self._buckets * _BUCKET
        at = table.find(_TAG.pack(tag), start, start + _BUCKET)
        if at < 0 or at % size:
            at = start + _BUCKET - size  # of what was remembered first
        table[start + size : at + size] = table[start:at]
        _CELL.pack_into(table, start, tag, version)

    def forget(self, key: LinkKey) -> None:
        """Let `key` have no floor."""
        at = self._find(key)
        if at is not None:
            end = (at // _BUCKET + 1) * _BUCKET
            self._table[at:end] = self._table[at + _CELL.size : end] + _FREE

    def _find(self, key: LinkKey) -> int | None:
        tag = hash(key) or 1  # a free cell has 0
        start = tag % self._buckets * _BUCKET
        at = self._table.find(_TAG.pack(tag), start, start + _BUCKET)
        # Across two numbers a tag is found once in 2**64 times, and is none.
        return None if at < 0 or at % _CELL.size else at
