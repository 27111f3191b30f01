"""The newest versions seen of keys that are no longer cached, in a table of fixed size.

A set-associative table in one block of memory: 16 bytes a floor (the key's hash and the version),
where a dict takes two hundred. A key has its place in one bucket; in a full bucket the one that was
remembered first is forgotten. There is room for twice as many as are asked for, so that hardly one
of those goes before its time because its bucket was popular.
"""

from struct import Struct

from shortcore.links.record import LinkKey

_TAG = Struct("<q")
_CELL = Struct("<qq")
_SIZE = _CELL.size
_FREE = bytes(_SIZE)
_WAYS = 16
_BUCKET = _WAYS * _SIZE


class Floors:
    """Versions by key: nearly always the last `room` that were remembered, and some before them."""

    def __init__(self, room: int) -> None:
        self._buckets = -(-2 * room // _WAYS)
        self._table = bytearray(self._buckets * _BUCKET)  # no memory is taken before it is used

    def get(self, key: LinkKey) -> int:
        """Return the floor of `key`, 0 if none is remembered."""
        # As `_place` and `_find`, without their calls: each link that is put into the cache asks.
        tag = hash(key) or 1
        start = tag % self._buckets * _BUCKET
        at = self._table.find(_TAG.pack(tag), start, start + _BUCKET)
        return 0 if at < 0 or at % _SIZE else int(_CELL.unpack_from(self._table, at)[1])

    def remember(self, key: LinkKey, version: int) -> None:
        """Let `version` (above 0) be the floor of `key`."""
        table = self._table
        tag = hash(key) or 1
        start = tag % self._buckets * _BUCKET
        at = table.find(_TAG.pack(tag), start, start + _BUCKET)
        if at < 0 or at % _SIZE:
            at = start + _BUCKET - _SIZE  # of what was remembered first
        table[start + _SIZE : at + _SIZE] = table[start:at]
        _CELL.pack_into(table, start, tag, version)

    def forget(self, key: LinkKey) -> None:
        """Let `key` have no floor."""
        tag, start = self._place(key)
        at = self._find(tag, start)
        if at >= 0:
            end = start + _BUCKET
            self._table[at:end] = self._table[at + _SIZE : end] + _FREE

    def _place(self, key: LinkKey) -> tuple[int, int]:
        """Return the key's tag and where its bucket begins."""
        tag = hash(key) or 1  # a free cell has 0
        return tag, tag % self._buckets * _BUCKET

    def _find(self, tag: int, start: int) -> int:
        """Return where the cell of `tag` is, below 0 if it is not in its bucket."""
        at = self._table.find(_TAG.pack(tag), start, start + _BUCKET)
        # Across two numbers a tag is found once in 2**64 times, and is none.
        return at if at % _SIZE == 0 else -1
