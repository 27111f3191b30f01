"""Which custom codes exist, so that made-up codes are refused without asking anybody.

A generated code proves itself (`CodeSpace.decode`); a custom one does not, so the redirector
knows them all in a Bloom filter (Bloom 1970): read from PostgreSQL, kept up to date by the change
feed. A code that neither decodes nor is in the filter does not exist. Two bits a code wrongly set
only mean a look-up.

The word of the filter counts only while relays say on the feed, about once a second, that
everything committed has been told (an entry without changes). A relay that is down or behind, a
cut feed, a gap: then it is silent, and every unknown code is looked up as usual.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.links import LinkKey

log = structlog.stdlib.get_logger(__name__)

TRUSTED_S = 5.0
"""How long the filter counts after a relay has said that all is told."""

BITS_A_CODE = 16
PROBES = 4
"""With these about 1 in 400 made-up codes costs a look-up (Bloom's formula)."""

LEAST_BITS = 1 << 16
GROWTH = 2
"""Room for as many codes more before the filter must be read anew."""

EVERY_S = 1.0
RETRY_S = 5.0
MANY_S = 600.0
"""How soon it looks again whether there are still too many: they are counted each time."""


class Bloom:
    """A set of keys that may take a stranger for a member, never a member for a stranger."""

    def __init__(self, codes: int) -> None:
        bits = LEAST_BITS
        while bits < codes * GROWTH * BITS_A_CODE:
            bits *= 2
        self.words = array("Q", bytes(bits // 8))
        self.mask = bits - 1
        self.room = bits // BITS_A_CODE
        self.known = 0

    def holds(self, key: str) -> bool:
        """Say whether `key` may be a member."""
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
            self.words[bit >> 6] |= 1 << (bit & 63)
            number += step
        self.known += 1


class CustomCodes:
    """`trusted()` and `holds(key)` are for the hot path; `load()` and `note()` keep them true.

    `count(most)` says how many keys with a custom code there are, `read` yields them in batches. More
    than `max_codes` switch the filter off, as it would take more memory than it may.
    """

    def __init__(
        self,
        count: Callable[[int], Awaitable[int]],
        read: Callable[[], AsyncIterator[Sequence[LinkKey]]],
        *,
        max_codes: int,
        clock: Callable[[], float],
    ) -> None:
        self.loaded = False
        self._count = count
        self._read = read
        self._max_codes = max_codes
        self._clock = clock
        self._bloom = Bloom(0)
        self._told_until = 0.0
        self._noted: set[LinkKey] | None = None
        self._losses = 0
        self._pause_s = RETRY_S

    def __len__(self) -> int:
        return self._bloom.known

    def trusted(self) -> bool:
        """Say whether the filter knows every custom code there is."""
        return self.loaded and self._clock() < self._told_until

    def holds(self, key: str) -> bool:
        """Say whether `key` may have a custom code; False is certain while trusted."""
        return self._bloom.holds(key)

    def all_told(self, at: float) -> None:
        """Take note that everything committed until `at` (of `clock`) has come by the feed."""
        self._told_until = at + TRUSTED_S

    def silence(self) -> None:
        """Say nothing until `all_told`: the feed is cut, and what is made now is not heard of."""
        self._told_until = 0.0

    def distrust(self) -> None:
        """Forget that the filter is complete: changes were lost. It must be loaded again."""
        self.loaded = False
        self._losses += 1

    def note(self, key: LinkKey) -> None:
        """Add a key that the feed has told of."""
        if self._noted is not None:
            self._noted.add(key)
        if not self._bloom.holds(key):
            self._bloom.add(key)
        if self._bloom.known > self._bloom.room:
            self.distrust()

    async def load(self) -> None:
        """Read all custom codes; the feed must be followed already.

        Raises DatabaseUnavailable; the filter then stays as it was, and distrusted.
        """
        # What the feed tells meanwhile may have been behind the reader's back.
        self._noted = set()
        losses = self._losses
        try:
            codes = await self._count(self._max_codes + 1)
            if codes > self._max_codes:
                log.warning("more custom codes than may be known", limit=self._max_codes)
                self._pause_s = MANY_S
                return
            self._pause_s = RETRY_S
            bloom = Bloom(codes)
            async for batch in self._read():
                for key in batch:
                    bloom.add(key)
            for key in self._noted:
                bloom.add(key)
            self._bloom = bloom
            # A code that was made behind the reader's back and lost from the feed is in neither.
            self.loaded = self._losses == losses
        finally:
            self._noted = None

    async def run(self) -> None:
        """Load whenever the filter is not complete, for ever."""
        while True:
            if not self.loaded and self._clock() < self._told_until:
                try:
                    await self.load()
                except DatabaseUnavailable as error:
                    log.debug("custom codes cannot be read", error=str(error))
            await asyncio.sleep(EVERY_S if self.loaded else self._pause_s)
