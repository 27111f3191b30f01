"""The newest known versions of keys that are no longer cached (floors), in a table of fixed size.

The table is set-associative, in one block of memory. A floor takes 16 bytes, the hash of the key and the
version; in a dict it would take 200. Each key belongs to one bucket. A full bucket drops its oldest
floor. The table is twice as large as asked for, so that a full bucket hardly ever drops one of the last
`room` floors.
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
    """Maps keys to their floors: nearly all of the last `room` floors, and some older ones."""

    def __init__(self, room: int) -> None:
        self._buckets = -(-2 * room // _WAYS)
        self._table = bytearray(
            self._buckets * _BUCKET
        )  # the system gives memory only to parts that are used

    def get(self, key: LinkKey) -> int:
        """Return the floor of `key`; 0 if it has none."""
        # The same as `_place` and `_find`, inline: this runs for each link that is cached.
        tag = hash(key) or 1
        start = tag % self._buckets * _BUCKET
        at = self._table.find(_TAG.pack(tag), start, start + _BUCKET)
        return 0 if at < 0 or at % _SIZE else int(_CELL.unpack_from(self._table, at)[1])

    def remember(self, key: LinkKey, version: int) -> None:
        """Set the floor of `key` to `version`, which is above 0."""
        table = self._table
        tag = hash(key) or 1
        start = tag % self._buckets * _BUCKET
        at = table.find(_TAG.pack(tag), start, start + _BUCKET)
        if at < 0 or at % _SIZE:
            at = start + _BUCKET - _SIZE  # the oldest floor of the bucket
        table[start + _SIZE : at + _SIZE] = table[start:at]
        _CELL.pack_into(table, start, tag, version)

    def forget(self, key: LinkKey) -> None:
        """Remove the floor of `key`."""
        tag, start = self._place(key)
        at = self._find(tag, start)
        if at >= 0:
            end = start + _BUCKET
            self._table[at:end] = self._table[at + _SIZE : end] + _FREE

    def _place(self, key: LinkKey) -> tuple[int, int]:
        """Return the tag of the key and the offset of its bucket."""
        tag = hash(key) or 1  # a free cell has 0
        return tag, tag % self._buckets * _BUCKET

    def _find(self, tag: int, start: int) -> int:
        """Return the offset of the cell of `tag`; -1 if it is not in the bucket."""
        at = self._table.find(_TAG.pack(tag), start, start + _BUCKET)
        # A match that does not begin at a cell (once in 2**64 searches) is not a tag.
        return at if at % _SIZE == 0 else -1
