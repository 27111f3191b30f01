"""Links in Redis: the newest version wins.

Every write is a compare-and-set on the record's version. So a slow writer can never replace a newer
target by an old one, in whatever order replies arrive.
"""

import asyncio
import contextlib
import enum
import random
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as aredis

from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import CorruptRecord, decode_record, encode_record
from shortcore.cache.scripts import PUBLISH
from shortcore.cache.ttls import CacheTtls
from shortcore.errors import CacheUnavailable
from shortcore.links.record import LinkKey, LinkRecord
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import Client, Getter
from shortcore.storage.redis_calls import RedisCalls

CLOCK_EVERY_S = 1.0
"""Interval of the measurements of `follow_clock`, in seconds."""


class Published(enum.IntEnum):
    """Whether Redis stored an offered record."""

    TAKEN = 1
    OLDER = 0
    """Redis already had this version or a newer one."""
    EXPIRED = -1
    """The record was read from PostgreSQL too long ago."""


_PUBLISHED = {int(each): each for each in Published}

OFFERED_AT_ONCE = 250
"""Maximum number of records in one call of the script, which blocks Redis for about 0.5 ms."""


class CacheStore(RedisCalls):
    """Reads and publishes records.

    Every method raises CacheUnavailable after `timeout_ms` at the latest, and at once while the
    breaker is open. The Lua script of the call has then made all of its changes or none.
    """

    def __init__(
        self,
        client: Client,
        keys: CacheKeys,
        *,
        ttls: CacheTtls,
        timeout_ms: int,
        breaker: Breaker,
        now_ms: Callable[[], int],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(breaker, timeout_ms)
        self.corrupt_total = 0
        self.clock_offset_ms: int | None = None
        """Redis's clock minus ours, as `measure_clock` measured it last; None before that."""
        self._client = client
        self._keys = keys
        self.ttls = ttls
        """The TTLs of records that are written from now on; may be replaced at any time."""
        self._now_ms = now_ms
        self._jitter = jitter
        self._publish = client.register_script(PUBLISH)
        self._getter = None if isinstance(client, aredis.RedisCluster) else Getter(client)

    async def get_many(self, keys: Sequence[LinkKey]) -> list[LinkRecord | None]:
        """Return the record of each key, in order; None for a key that Redis does not have."""
        names = self._keys.links(keys)
        values = await self.call(lambda: self._get(names))
        records: list[LinkRecord | None] = []
        for value in values:
            try:
                records.append(None if value is None else decode_record(value))
            except CorruptRecord:
                self.corrupt_total += 1  # a miss, which PostgreSQL answers
                records.append(None)
        return records

    async def get(self, key: LinkKey) -> LinkRecord | None:
        """Return the record of one key, or None."""
        return (await self.get_many([key]))[0]

    async def publish(self, key: LinkKey, record: LinkRecord) -> Published:
        """Offer `record`, which was read just now, as the newest record of `key`."""
        return (await self.publish_many([(key, record)], read_at_ms=self._now_ms()))[0]

    async def fill(self, key: LinkKey, record: LinkRecord, *, read_at_ms: int) -> Published:
        """Offer a record that was read from PostgreSQL at `read_at_ms` (our clock, before the read).

        Redis refuses a record that was read too long ago by the clock of Redis: a newer record or a
        tombstone may have been stored since then, and evicted, flushed or expired.
        """
        return (await self.fill_many([(key, record, read_at_ms)]))[0]

    async def fill_many(self, items: Sequence[tuple[LinkKey, LinkRecord, int]]) -> list[Published]:
        """Offer many records, each with the time of its read, in one round trip."""
        if not items:
            return []
        offset = self.clock_offset_ms
        if offset is None:
            offset = await self.measure_clock()
        return await self._offer(
            [(key, record, read_at_ms + offset) for key, record, read_at_ms in items]
        )

    async def publish_many(
        self, items: Sequence[tuple[LinkKey, LinkRecord]], *, read_at_ms: int
    ) -> list[Published]:
        """Offer many records that were read at the same time, as `fill_many` does.

        Redis also refuses records that are too old if the caller has just made the change: the
        caller may have been delayed since then.
        """
        return await self.fill_many([(key, record, read_at_ms) for key, record in items])

    async def _offer(self, items: Sequence[tuple[LinkKey, LinkRecord, int]]) -> list[Published]:
        now_ms = self._now_ms()
        oldest = self.ttls.fill_max_age_ms
        names = self._keys.links(key for key, _, _ in items)
        args: list[bytes | int] = []
        for _, record, read_at_ms in items:
            args += encode_record(record), self.ttls.ttl_ms(record, now_ms, self._jitter())
            args.append(read_at_ms)

        async def run() -> list[int]:
            if isinstance(self._client, aredis.RedisCluster):
                # The keys are in different slots: one script for each, one round trip to each node.
                pipe: Any = self._client.pipeline()
                for at, name in enumerate(names):
                    pipe.eval(PUBLISH, 1, name, oldest, *args[3 * at : 3 * at + 3])
                return [reply for (reply,) in await pipe.execute()]
            replies: list[int] = []
            for at in range(0, len(names), OFFERED_AT_ONCE):
                end = at + OFFERED_AT_ONCE
                replies += await self._publish(
                    keys=names[at:end], args=[oldest, *args[3 * at : 3 * end]]
                )
            return replies

        return [_PUBLISHED[reply] for reply in await self.call(run)]

    async def measure_clock(self) -> int:
        """Measure Redis's clock minus ours, in milliseconds.

        The delay of the reply is ignored. So a slow reply makes records look older, never younger.
        """
        seconds, microseconds = await self.call(self._client.time)
        redis_ms = int(seconds) * 1000 + int(microseconds) // 1000
        self.clock_offset_ms = redis_ms - self._now_ms()
        return self.clock_offset_ms

    async def follow_clock(self) -> None:
        """Measure Redis's clock periodically until cancelled: either clock may be adjusted."""
        while True:
            # Redis is down, or its reply is not a time: the last offset stays.
            with contextlib.suppress(CacheUnavailable, LookupError, TypeError, ValueError):
                await self.measure_clock()
            await asyncio.sleep(CLOCK_EVERY_S)

    async def close(self) -> None:
        """Close every connection."""
        if self._getter is not None:
            await self._getter.close()
        await self._client.aclose()

    async def _get(self, names: list[str]) -> list[bytes | None]:
        if self._getter is not None:
            return await self._getter.mget(names)
        # The keys are in different slots: one round trip to each node, all at once.
        pipe: Any = self._client.pipeline()
        for name in names:
            pipe.get(name)
        return list(await pipe.execute())
