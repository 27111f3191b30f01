"""The cache and the change feed over Sentinel and over a cluster of three nodes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis
from harness.cluster import NODES, Cluster
from harness.sentinel import SentinelGroup
from harness.stopwatch import Stopwatch
from harness.waiting import until_async

from shortcore.cache.change_feed import START, Change, ChangeFeed
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore, Published
from shortcore.cache.ttls import CacheTtls
from shortcore.errors import CacheUnavailable
from shortcore.links.record import Kind, LinkRecord, absent, link_key
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client, open_redis, servers_of

pytestmark = pytest.mark.fault

TIMEOUT_MS = 50
T = TypeVar("T")
KEYS = [link_key("go.example", f"code{number}") for number in range(300)]


def record(version: int, kind: Kind = Kind.ACTIVE) -> LinkRecord:
    return LinkRecord(version, kind, target=f"https://example.com/{version}")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def opened_store(client: Client, prefix: str) -> AsyncIterator[CacheStore]:
    store = CacheStore(
        client,
        CacheKeys(prefix),
        ttls=CacheTtls(60_000, 10_000, 60_000, 2000),
        timeout_ms=TIMEOUT_MS,
        breaker=Breaker(failures=3, open_s=0.2, clock=time.monotonic),
        now_ms=now_ms,
    )
    try:
        yield store
    finally:
        await store.close()


def make_feed(client: Client, prefix: str) -> ChangeFeed:
    return ChangeFeed(client, CacheKeys(prefix), max_length=1000, max_age_s=3600)


@contextlib.asynccontextmanager
async def opened(url: str, timeout_ms: int = TIMEOUT_MS) -> AsyncIterator[Client]:
    client = open_redis(url, timeout_ms=timeout_ms, pool_size=8, application="test")
    try:
        yield client
    finally:
        await client.aclose()


async def soon(work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` gives once Redis can be asked."""

    async def done() -> tuple[T]:
        return (await work(),)

    unavailable = (*REDIS_UNAVAILABLE_ERRORS, CacheUnavailable)
    (result,) = await until_async(done, "Redis answers", retry=unavailable)
    return result


@pytest.fixture
def sentinels(server_folder: Path) -> Iterator[SentinelGroup]:
    with SentinelGroup(server_folder) as group:
        yield group


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    from harness.servers import open_folder  # noqa: PLC0415

    with open_folder() as folder, Cluster(folder) as cluster:
        yield cluster


async def test_after_a_failover_sentinel_clients_find_the_new_primary_and_its_records(
    sentinels: SentinelGroup, redis_prefix: str
) -> None:
    async with opened(sentinels.url) as client, opened_store(client, redis_prefix) as store:
        assert await soon(lambda: store.publish(KEYS[0], record(7))) is Published.TAKEN
        before = await servers_of(client)
        with redis.Redis.from_url(sentinels.primary.url) as primary:
            assert primary.wait(1, 2000) == 1
        old = sentinels.primary.port
        sentinels.primary.kill()
        with pytest.raises(CacheUnavailable):
            await store.get(KEYS[0])
        await asyncio.to_thread(sentinels.wait_failed_over, old)

        assert await soon(lambda: store.get(KEYS[0])) == record(7)
        assert await store.publish(KEYS[0], record(6)) is Published.OLDER
        assert await store.publish(KEYS[0], record(8)) is Published.TAKEN
        assert await servers_of(client) != before


async def test_a_sentinel_client_leaves_a_primary_that_became_a_replica(
    sentinels: SentinelGroup, redis_prefix: str
) -> None:
    async with opened(sentinels.url) as client, opened_store(client, redis_prefix) as store:
        assert await soon(lambda: store.publish(KEYS[0], record(1))) is Published.TAKEN
        assert await store.get(KEYS[0]) == record(1)
        old = sentinels.primary.port
        with redis.Redis.from_url(sentinels.sentinels[0].url) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "links")
        await asyncio.to_thread(sentinels.wait_failed_over, old)
        # The old one lives on, read-only: who stays with it can never publish again.
        assert await soon(lambda: store.publish(KEYS[0], record(2))) is Published.TAKEN
        assert await store.get(KEYS[0]) == record(2)


async def test_a_reader_of_the_feed_sees_that_a_failover_lost_its_tail(
    sentinels: SentinelGroup, redis_prefix: str
) -> None:
    async with opened(sentinels.url) as client, opened(sentinels.url, 1500) as other:
        feed, reader = make_feed(client, redis_prefix), make_feed(other, redis_prefix)
        await soon(lambda: feed.append([Change(KEYS[0], 1, now_ms())]))
        kept = await feed.end()
        with redis.Redis.from_url(sentinels.primary.url) as primary:
            assert primary.wait(1, 2000) == 1
        # The replica is away: it gets nothing of what the primary still acknowledges.
        with redis.Redis.from_url(sentinels.replica.url) as replica:
            replica.save()
        sentinels.replica.kill()
        await feed.append([Change(KEYS[0], 2, now_ms())])
        position = await feed.end()
        old = sentinels.primary.port
        sentinels.primary.kill()
        sentinels.replica.start()
        await asyncio.to_thread(sentinels.wait_failed_over, old)

        batch = await soon(lambda: reader.read(position, wait_ms=100))
        assert batch.gap
        assert batch.position == kept


async def test_one_sentinel_that_hangs_does_not_keep_clients_from_the_primary(
    sentinels: SentinelGroup, redis_prefix: str
) -> None:
    sentinels.sentinels[0].pause()
    async with opened(sentinels.url) as client, opened_store(client, redis_prefix) as store:
        assert await soon(lambda: store.publish(KEYS[0], record(1))) is Published.TAKEN
    sentinels.sentinels[0].resume()


async def test_with_all_sentinels_away_a_call_fails_within_its_deadline(
    sentinels: SentinelGroup, redis_prefix: str
) -> None:
    for one in sentinels.sentinels:
        one.pause()
    async with opened(sentinels.url) as client, opened_store(client, redis_prefix) as store:
        with Stopwatch() as took, pytest.raises(CacheUnavailable):
            await store.get(KEYS[0])
        assert took.seconds < 2 * TIMEOUT_MS / 1000
    for one in sentinels.sentinels:
        one.resume()


async def test_a_cluster_takes_and_gives_links_of_many_slots_in_their_order(
    cluster: Cluster, redis_prefix: str
) -> None:
    async with opened(cluster.url) as client, opened_store(client, redis_prefix) as store:
        assert await soon(lambda: store.get_many(KEYS[:3])) == [None] * 3
        items = [(key, record(number + 1)) for number, key in enumerate(KEYS)]
        assert await store.publish_many(items, read_at_ms=now_ms()) == [Published.TAKEN] * len(KEYS)
        assert all(cluster.keys_of(number) for number in range(NODES))

        asked = [KEYS[5], link_key("go.example", "nobody"), *reversed(KEYS)]
        wanted = [record(6), None, *(record(number + 1) for number in reversed(range(len(KEYS))))]
        assert await store.get_many(asked) == wanted


async def test_in_a_cluster_the_newest_version_wins_by_script(
    cluster: Cluster, redis_prefix: str
) -> None:
    async with opened(cluster.url) as client, opened_store(client, redis_prefix) as store:
        await soon(store.measure_clock)
        for number, key in enumerate(KEYS[:20]):
            assert await store.publish(key, record(5)) is Published.TAKEN
            assert await store.publish(key, record(4)) is Published.OLDER
            assert await store.fill(key, absent(), read_at_ms=now_ms()) is Published.OLDER
            late = now_ms() - 3000
            assert await store.fill(key, record(9), read_at_ms=late) is Published.EXPIRED
            assert await store.publish(key, record(6, Kind.DELETED)) is Published.TAKEN
            found = await store.get(key)
            assert found is not None, number
            assert (found.version, found.kind) == (6, Kind.DELETED)


async def test_in_a_cluster_the_feed_brings_changes_in_order_and_sees_a_flush(
    cluster: Cluster, redis_prefix: str
) -> None:
    async with opened(cluster.url) as client, opened(cluster.url, 1500) as other:
        feed, reader = make_feed(client, redis_prefix), make_feed(other, redis_prefix)
        changes = [Change(key, number + 1, now_ms()) for number, key in enumerate(KEYS[:50])]
        for change in changes:
            await soon(lambda change=change: feed.append([change]))
        batch = await soon(lambda: reader.read(START, wait_ms=100))
        assert list(batch.changes) == changes
        assert not batch.gap
        await client.delete(CacheKeys(redis_prefix).changes)
        await feed.append([Change(KEYS[0], 99, now_ms())])
        late = await reader.read(batch.position, wait_ms=100)
        assert late.gap
        assert [change.version for change in late.changes] == [99]


async def test_the_servers_of_a_cluster_are_named_by_every_primary(cluster: Cluster) -> None:
    async with opened(cluster.url) as client:
        assert len((await soon(lambda: servers_of(client))).split(",")) == NODES


async def test_a_cluster_without_one_node_still_gives_the_links_of_the_others(
    server_folder: Path, redis_prefix: str
) -> None:
    with Cluster(server_folder) as cluster:
        async with opened(cluster.url) as client, opened_store(client, redis_prefix) as store:
            items = [(key, record(1)) for key in KEYS]
            await soon(lambda: store.publish_many(items, read_at_ms=now_ms()))
            cluster.nodes[2].kill()

            async def known() -> int:
                found = 0
                for key in KEYS:
                    with contextlib.suppress(CacheUnavailable):
                        store.breaker.succeeded()
                        found += await store.get(key) is not None
                return found

            assert await known() >= len(KEYS) // 2
