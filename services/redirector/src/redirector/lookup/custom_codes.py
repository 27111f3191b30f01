"""Knows which custom codes exist, so that a scan is refused without a lookup.

A generated code can be verified without a lookup (`CodeSpace.decode`). A custom code cannot, so the
redirector keeps all custom codes in a Bloom filter (Bloom 1970), which it reads from PostgreSQL and
keeps up to date by the change feed. A code that neither decodes nor is in the filter does not
exist. A false positive of the filter costs one lookup.

The filter is trusted only while relays report on the feed, about once a second, that every
committed change has been sent (an entry without changes). When a relay is down or behind, or the
feed is cut or has a gap, every unknown code is looked up as usual.
"""

import asyncio
import math
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.links.record import LinkKey

log = structlog.stdlib.get_logger(__name__)

TRUSTED_S = 5.0
"""How long the filter is trusted after a heartbeat without changes."""

SETTLED_S = 6.0
"""How long keys from the feed are collected before the codes are read.

It is longer than a write transaction may take (`postgres_write_timeout_ms`), so a code that was
pre-announced earlier is committed by then.
"""

BITS_A_CODE = 16
PROBES = 4
"""Bits set for each code: a full filter has 1 false positive in about 400 codes (Bloom's formula)."""

LEAST_BITS = 1 << 16
GROWTH = 2
"""The filter is read again when it has this many times the codes that it was made for."""

EVERY_S = 1.0
RETRY_S = 5.0
MANY_S = 600.0
"""Interval while the filter is switched off, as each attempt counts too many codes."""


class Bloom:
    """A set of keys with false positives and no false negatives."""

    def __init__(self, codes: int) -> None:
        bits = LEAST_BITS
        while bits < codes * GROWTH * BITS_A_CODE:
            bits *= 2
        self.words = array("Q", bytes(bits // 8))
        self.mask = bits - 1
        self.room = bits // BITS_A_CODE
        self.known = 0
        self._ones = 0

    @property
    def false_positive_ratio(self) -> float:
        """The ratio of false positives, computed from the bits that are set."""
        return (self._ones / (self.mask + 1)) ** PROBES

    def holds(self, key: str) -> bool:
        """Return whether `key` may be a member."""
        number = hash(key)
        step = (number >> 32) | 1
        words, mask = self.words, self.mask
        for _ in range(PROBES):
            bit = number & mask
            if not words[bit >> 6] >> (bit & 63) & 1:
                return False
            number += step
        return True

    def add(self, key: str) -> None:
        """Make `key` a member."""
        number = hash(key)
        step = (number >> 32) | 1
        for _ in range(PROBES):
            bit = number & self.mask
            word, one = self.words[bit >> 6], 1 << (bit & 63)
            if not word & one:
                self.words[bit >> 6] = word | one
                self._ones += 1
            number += step
        self.known += 1


class CustomCodes:
    """A Bloom filter of all custom codes: `holds(key)` while `now < trusted_until`.

    `load()` fills the filter and `note()` keeps it complete. A custom code for which `decode`
    returns an id is left out, because it is looked up in any case.

    `count(most)` returns how many keys with a custom code there are, `read` yields them in batches,
    and `sample` returns some generated codes. The filter is switched off if there are more than
    `max_codes` custom codes, to limit its memory, or if `decode` cannot verify existing generated
    codes (made with another secret), because the filter would refuse them.
    """

    def __init__(
        self,
        count: Callable[[int], Awaitable[int]],
        read: Callable[[], AsyncIterator[Sequence[LinkKey]]],
        sample: Callable[[], Awaitable[Sequence[str]]],
        *,
        decode: Callable[[str], int | None],
        max_codes: int,
        clock: Callable[[], float],
    ) -> None:
        self.loaded = False
        self.trusted_until = -math.inf
        """A plain attribute, for the hot path to compare with: until this time of `clock` the
        filter knows every custom code."""
        self._count = count
        self._read = read
        self._sample = sample
        self._decode = decode
        self._max_codes = max_codes
        self._clock = clock
        self._bloom = Bloom(0)
        self._told_until = -math.inf
        self._wanted = True
        self._noted: set[LinkKey] = set()
        self._noted_since = clock()
        self._losses = 0
        self._pause_s = EVERY_S

    def __len__(self) -> int:
        return self._bloom.known

    @property
    def false_positive_ratio(self) -> float:
        """The share of unknown codes that the filter takes for custom codes."""
        return self._bloom.false_positive_ratio

    def trusted(self) -> bool:
        """Return whether the filter has every custom code now."""
        return self._clock() < self.trusted_until

    def holds(self, key: str) -> bool:
        """Return whether `key` may have a custom code; while trusted, False is certain."""
        return self._bloom.holds(key)

    def all_told(self, at: float) -> None:
        """Note that every change committed before `at` (of `clock`) has arrived by the feed."""
        self._told(at + TRUSTED_S)

    def silence(self) -> None:
        """Trust the filter no more until `all_told`: the feed is cut, so new codes do not arrive."""
        self._told(-math.inf)

    def distrust(self) -> None:
        """Mark the filter as incomplete, as changes were lost: it must be loaded again."""
        self._losses += 1
        self._complete(False)
        self._want()

    def note(self, key: LinkKey) -> None:
        """Add a key from the feed, unless its code is a generated code."""
        if self._decode(key.rpartition("/")[2]) is not None:
            return
        bloom = self._bloom
        if not bloom.holds(key):
            bloom.add(key)
            # A filter that is too full refuses less, but nothing wrongly: it serves until the
            # next one is read.
            if bloom.known > bloom.room and not self._wanted:
                self._want()
        if self._wanted:
            self._noted.add(key)
            if len(self._noted) > max(self._max_codes, bloom.room):
                self.distrust()

    async def load(self) -> None:
        """Read all custom codes while the feed is followed.

        Raises DatabaseUnavailable; the filter then stays as it was.
        """
        losses = self._losses
        self._pause_s = MANY_S
        codes = await self._count(self._max_codes + 1)
        if codes > self._max_codes:
            log.warning("too many custom codes for the filter", limit=self._max_codes)
            self._complete(False)
            return
        foreign = [code for code in await self._sample() if self._decode(code) is None]
        if foreign:
            log.warning("links have generated codes of another code_secret", example=foreign[0])
            self._complete(False)
            return
        self._pause_s = EVERY_S
        bloom = Bloom(codes)
        async for batch in self._read():
            for key in batch:
                if self._decode(key.rpartition("/")[2]) is None:
                    bloom.add(key)
        # A code that was committed after the reader had passed its place came by the feed.
        for key in self._noted:
            bloom.add(key)
        if losses != self._losses:
            return  # … or was lost from it, and is in neither
        self._bloom = bloom
        self._complete(True)
        self._wanted = bloom.known > bloom.room
        if not self._wanted:
            self._noted = set()

    async def run(self) -> None:
        """Load the filter whenever it is incomplete or too full; runs for ever."""
        while True:
            now = self._clock()
            if self._wanted and self._noted_since + SETTLED_S <= now < self._told_until:
                try:
                    await self.load()
                except DatabaseUnavailable as error:
                    log.debug("reading custom codes failed", error=str(error))
                    self._pause_s = RETRY_S
            await asyncio.sleep(self._pause_s)

    def _want(self) -> None:
        self._wanted = True
        self._noted = set()
        self._noted_since = self._clock()

    def _told(self, until: float) -> None:
        self._told_until = until
        self._complete(self.loaded)

    def _complete(self, loaded: bool) -> None:
        self.loaded = loaded
        self.trusted_until = self._told_until if loaded else -math.inf
