"""Links in Redis, newest version wins.

Every write is a compare-and-set on the record's version, so a slow filler can never put an
old target over a newer one, in whatever order replies arrive.
"""

import asyncio
import contextlib
import enum
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.asyncio as aredis
from redis.exceptions import ResponseError

from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import CorruptRecord, decode_record, encode_record
from shortcore.cache.scripts import PUBLISH
from shortcore.errors import CacheUnavailable
from shortcore.links.record import Kind, LinkKey, LinkRecord
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.dependency import Dependency
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client, Getter

T = TypeVar("T")

CLOCK_EVERY_S = 1.0
"""How often `follow_clock` measures."""


class Published(enum.IntEnum):
    """What became of an offered record."""

    TAKEN = 1
    OLDER = 0
    """A newer version, or this one, stands already."""
    EXPIRED = -1
    """It was read from PostgreSQL too long ago."""


_PUBLISHED = {int(each): each for each in Published}

OFFERED_AT_ONCE = 250
"""Records of one script, which holds up all others in Redis for about half a millisecond."""


@dataclass(frozen=True, slots=True)
class CacheTtls:
    """How long records stay in Redis, in milliseconds."""

    link_ms: int
    negative_ms: int
    tombstone_ms: int
    fill_max_age_ms: int

    def ttl_ms(self, record: LinkRecord, now_ms: int, jitter: float) -> int:
        """Return the TTL of `record`: jittered down by up to 10%, ending with the link."""
        if record.version == 0:
            return self.negative_ms
        if record.kind in (Kind.DELETED, Kind.ABSENT):
            return self.tombstone_ms
        ttl = int(self.link_ms * (1 - jitter / 10))
        if record.expires_at_ms is not None and now_ms < record.expires_at_ms:
            ttl = min(ttl, record.expires_at_ms - now_ms)
        return max(ttl, 1)


class CacheStore:
    """Reads and publishes records.

    Every method raises CacheUnavailable after `timeout_ms` at the latest, having changed
    nothing or all, and at once while the breaker is open.
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
        self.breaker = breaker
        self.corrupt_total = 0
        self.last_error = ""
        self.clock_offset_ms: int | None = None
        """Redis's clock minus ours, as last measured by `measure_clock`; None until then."""
        self._client = client
        self._keys = keys
        self.ttls = ttls
        """Of what is put from now on; may be replaced at any time."""
        self._timeout_s = timeout_ms / 1000
        self._answers = 0
        self._now_ms = now_ms
        self._jitter = jitter
        self._publish = client.register_script(PUBLISH)
        self._getter = None if isinstance(client, aredis.RedisCluster) else Getter(client)

    async def get_many(self, keys: Sequence[LinkKey]) -> list[LinkRecord | None]:
        """Return the record of each key, in order; None where Redis knows nothing."""
        names = self._keys.links(keys)
        values = await self.call(lambda: self._get(names))
        records: list[LinkRecord | None] = []
        for value in values:
            try:
                records.append(None if value is None else decode_record(value))
            except CorruptRecord:
                self.corrupt_total += 1  # a miss: the fill that follows cannot do worse
                records.append(None)
        return records

    async def get(self, key: LinkKey) -> LinkRecord | None:
        """Return the record of one key, or None."""
        return (await self.get_many([key]))[0]

    async def publish(self, key: LinkKey, record: LinkRecord) -> Published:
        """Offer `record` as the newest of `key`, as of now."""
        return (await self.publish_many([(key, record)], read_at_ms=self._now_ms()))[0]

    async def fill(self, key: LinkKey, record: LinkRecord, *, read_at_ms: int) -> Published:
        """Offer what was read from PostgreSQL at `read_at_ms` (our clock, before the read).

        Refused when that is too long ago by Redis's clock: meanwhile a newer record, or a
        tombstone, may have come and gone (evicted, flushed, at its end).
        """
        return (await self.fill_many([(key, record, read_at_ms)]))[0]

    async def fill_many(self, items: Sequence[tuple[LinkKey, LinkRecord, int]]) -> list[Published]:
        """Offer many records, each with the time it was read at, in one round trip."""
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
        """Offer many records, all as they were at `read_at_ms`, as `fill_many` does.

        Who knows of a change first is no exception: a publisher may be held up, too.
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
                # The keys lie in many slots: a script for each, in one round trip to each node.
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
        """Ask Redis for its time; returns its clock minus ours in milliseconds.

        As if the answer had taken no time: so a slow one makes what was read older, never younger.
        """
        seconds, microseconds = await self.call(self._client.time)
        told_ms = int(seconds) * 1000 + int(microseconds) // 1000
        self.clock_offset_ms = told_ms - self._now_ms()
        return self.clock_offset_ms

    async def follow_clock(self) -> None:
        """Measure Redis's clock again and again, for ever: either clock may be set."""
        while True:
            # Down, or answering what is no time: the last offset stays.
            with contextlib.suppress(CacheUnavailable, LookupError, TypeError, ValueError):
                await self.measure_clock()
            await asyncio.sleep(CLOCK_EVERY_S)

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` gives, under the deadline and the breaker of all calls here."""
        if not self.breaker.allows():
            raise CacheUnavailable(f"Redis is not answering: {self.last_error}")
        answers = self._answers
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await call()
        except ResponseError as error:
            # Full, or a read-only replica: it answered, if only to refuse. What stands there can
            # still be read, so the breaker must not keep us away.
            self._answered()
            self.last_error = f"{type(error).__name__}: {error}"
            raise CacheUnavailable(f"Redis refuses: {self.last_error}") from error
        except REDIS_UNAVAILABLE_ERRORS as error:
            missed = isinstance(error, TimeoutError)
            self.last_error = (
                f"no answer within {self._timeout_s * 1000:.0f} ms"
                if missed
                else f"{type(error).__name__}: {error}"
            )
            # Some that wait too long for a connection, while others are answered, are a burst of
            # ours and no server that is away.
            if not missed or answers == self._answers:
                self.breaker.failed()
            raise CacheUnavailable(f"Redis is not answering: {self.last_error}") from error
        self._answered()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # redis-py sends by `asyncio.wait_for`, which swallows a cancellation that comes as it
            # is done (Python 3.11); whoever cancelled would wait for us for ever.
            raise asyncio.CancelledError
        return reply

    def check(self) -> Dependency:
        """Return its line for `/health`, from memory."""
        ok = self.breaker.state == 0
        return Dependency("redis", ok, "answering" if ok else self.last_error)

    async def close(self) -> None:
        """Close every connection."""
        if self._getter is not None:
            await self._getter.close()
        await self._client.aclose()

    def _answered(self) -> None:
        self._answers += 1
        self.breaker.succeeded()

    async def _get(self, names: list[str]) -> list[bytes | None]:
        if self._getter is not None:
            return await self._getter.mget(names)
        # The keys lie in many slots: one round trip to each node, all at once.
        pipe: Any = self._client.pipeline()
        for name in names:
            pipe.get(name)
        return list(await pipe.execute())
