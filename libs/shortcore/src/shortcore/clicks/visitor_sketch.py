"""Sketches of a day's visitors: HyperLogLog, as Apache DataSketches stores it, with a checksum.

A sketch is practically exact up to about 180 visitors and has then 16 + 4 bytes per visitor. Above, it
has 1.1 KB, and the standard error of the estimate is 2.3%. Sketches of one day can be united, because
a visitor has the same pseudonym in all of them. A sorted list of the pseudonyms was measured, too: it
is twice as large and not faster.
"""

import functools
import importlib
import zlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

VISITOR_BYTES = 8
LG_K = 11
"""A full sketch has 2^11 registers of 4 bits, so that a row stays below the 2 KB that PostgreSQL
stores in place."""

_MAX_FRESH = 4096
"""Visitors kept as bytes until they are put into a sketch: about 0.4 MB."""

_CHECKSUM_BYTES = 4


class CorruptRollup(ValueError):
    """Stored bytes are not what was encoded."""


class VisitorSketch:
    """The visitors of one subject on one day: those of the encoded sketch `stored`, and the `fresh` ones."""

    __slots__ = ("fresh", "stored")

    def __init__(self) -> None:
        self.stored = b""
        self.fresh: set[bytes] = set()

    def add(self, visitor: bytes) -> None:
        """Add the pseudonym of a visitor, of VISITOR_BYTES bytes."""
        self.fresh.add(visitor)
        if len(self.fresh) > _MAX_FRESH:
            self.encode()

    def add_all(self, visitors: Iterable[bytes]) -> None:
        """Add many pseudonyms; empty ones are left out."""
        self.fresh.update(visitors)
        self.fresh.discard(b"")
        if len(self.fresh) > _MAX_FRESH:
            self.encode()

    def merge(self, other: "VisitorSketch") -> None:
        """Add the visitors of `other`, which does not change."""
        if other.stored:
            self.stored = _union(self.stored, other.stored) if self.stored else other.stored
        if other.fresh:
            self.fresh |= other.fresh
            if len(self.fresh) > _MAX_FRESH:
                self.encode()

    def encode(self) -> bytes:
        """Return the bytes of the sketch: none if there was no visitor."""
        if self.fresh:
            library = _datasketches()
            if self.stored:
                sketch = _deserialize(self.stored)
            else:
                sketch = library.hll_sketch(LG_K, library.HLL_4)
            for visitor in self.fresh:
                sketch.update(int.from_bytes(visitor[:VISITOR_BYTES], "little", signed=True))
            self.stored = _serialize(sketch)
            self.fresh = set()
        return self.stored

    @classmethod
    def decode(cls, stored: bytes) -> "VisitorSketch":
        """Return the sketch that `encode` returned; raises CorruptRollup."""
        _check(stored)
        sketch = cls()
        sketch.stored = bytes(stored)
        return sketch

    def estimate(self) -> int:
        """Return the estimated number of visitors."""
        return unique_visitors([self.encode()])


def unique_visitors(sketches: Iterable[bytes]) -> int:
    """Return the estimated number of visitors in all sketches of one day; raises CorruptRollup.

    Visitors have other pseudonyms on another day, so sketches of several days cannot be united:
    add up the numbers of the days.
    """
    given = [sketch for sketch in sketches if sketch]
    for sketch in given:
        _check(sketch)
    if not given:
        return 0
    if len(given) == 1:
        estimate: float = _deserialize(given[0]).get_estimate()
    else:
        union = _datasketches().hll_union(LG_K)
        for sketch in given:
            union.update(_deserialize(sketch))
        estimate = union.get_estimate()
    return round(estimate)


def load_library() -> None:
    """Load the library of the sketches, which takes about a second, before it is needed."""
    _datasketches()


def _union(one: bytes, other: bytes) -> bytes:
    library = _datasketches()
    union = library.hll_union(LG_K)
    union.update(_deserialize(one))
    union.update(_deserialize(other))
    return _serialize(union.get_result(library.HLL_4))


def _deserialize(stored: bytes) -> Any:
    return _datasketches().hll_sketch.deserialize(stored[_CHECKSUM_BYTES:])


def _serialize(sketch: Any) -> bytes:
    data: bytes = sketch.serialize_compact()
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") + data


def _check(stored: bytes) -> None:
    # The library trusts its input: a changed length makes it allocate gigabytes.
    checksum = zlib.crc32(memoryview(stored)[_CHECKSUM_BYTES:])
    if checksum.to_bytes(_CHECKSUM_BYTES, "big") != stored[:_CHECKSUM_BYTES]:
        raise CorruptRollup("the checksum of the sketch of visitors is wrong")


@functools.cache
def _datasketches() -> ModuleType:
    # The redirector's image has no datasketches, and the import takes a while (it needs NumPy).
    return importlib.import_module("datasketches")
