"""A Redis that takes no writes is still read, and one that was held up takes nothing old."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from harness.rig import Rig, api_path, make_links
from harness.visitor import visit
from harness.waiting import until

from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore, Published
from shortcore.cache.ttls import CacheTtls
from shortcore.errors import CacheUnavailable
from shortcore.links.record import Kind, LinkRecord, link_key
from shortcore.storage.circuit_breaker import Breaker, State
from shortcore.storage.redis import open_redis
from shortctl.embedded import EmbeddedValkey

pytestmark = pytest.mark.fault

KEY = link_key("go.example", "code")
RECORD = LinkRecord(1, Kind.ACTIVE, target="https://example.com/")


@pytest.fixture
def server(server_folder: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(server_folder / "redis")
    server.start()
    yield server
    server.stop()


def fill_up(client: "redis.Redis") -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)


def demote(client: "redis.Redis") -> None:
    client.replicaof("127.0.0.1", 1)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def open_store(server: EmbeddedValkey, *, max_age_ms: int = 2000) -> CacheStore:
    return CacheStore(
        open_redis(server.url, timeout_ms=500, pool_size=4, application="test"),
        CacheKeys(""),
        ttls=CacheTtls(60_000, 1000, 60_000, max_age_ms),
        timeout_ms=500,
        breaker=Breaker(failures=3, open_s=60, clock=time.monotonic),
        now_ms=now_ms,
    )


@contextmanager
def connected(server: EmbeddedValkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.mark.parametrize("refuse", [fill_up, demote])
async def test_refused_writes_keep_nobody_from_reading(
    server: EmbeddedValkey, refuse: Callable[["redis.Redis"], None]
) -> None:
    store = open_store(server)
    await store.publish(KEY, RECORD)
    with connected(server) as direct:
        refuse(direct)
    for number in range(10):
        with pytest.raises(CacheUnavailable, match="refuses"):
            await store.publish(link_key("go.example", str(number)), RECORD)
    with pytest.raises(CacheUnavailable):
        await store.publish_many(
            [(KEY, LinkRecord(2, Kind.ACTIVE)), (KEY, RECORD)], read_at_ms=now_ms()
        )
    assert store.breaker.state is State.CLOSED
    assert await store.get(KEY) == RECORD
    await store.close()


@pytest.mark.parametrize("refuse", [fill_up, demote])
def test_edits_and_deletions_are_seen_although_redis_cannot_be_told(
    server_folder: Path, refuse: Callable[["redis.Redis"], None]
) -> None:
    with Rig(server_folder, {"L1_TTL_S": "1"}) as rig:
        writer, redirector = rig.stack.writer(), rig.stack.redirector()
        rig.stack.relay()
        with rig.stack.api(writer) as api:
            edited, deleted = made = list(make_links(api, 2))
            until(lambda: all_seen(redirector.url, made, 302), "both are in Redis")
            with rig.valkey() as client:
                refuse(client)
            api.patch(api_path(edited), json={"target": "https://new.example/"}).raise_for_status()
            api.delete(api_path(deleted)).raise_for_status()

        def seen() -> bool:
            [(_, edit), (_, deletion)] = asyncio.run(visit(redirector.url, made, clients=1))
            return edit.location == "https://new.example/" and deletion.status == 410

        until(seen, "PostgreSQL is asked, as nobody tells Redis", 15)


def all_seen(url: str, paths: list[str], status: int) -> bool:
    return all(answer.status == status for _, answer in asyncio.run(visit(url, paths, clients=1)))


async def test_what_redis_reads_long_after_it_was_sent_is_refused(server: EmbeddedValkey) -> None:
    # Meanwhile a newer version may have come and gone: evicted, or flushed.
    store = open_store(server, max_age_ms=400)
    await store.publish(link_key("go.example", "another"), RECORD)  # it is connected now
    with connected(server) as direct:

        def scripts_run() -> int:
            return int(direct.info("commandstats")["cmdstat_evalsha"]["calls"])

        before = scripts_run()
        server.pause()
        with pytest.raises(CacheUnavailable):  # after 500 ms: longer than the greatest age
            await store.publish(KEY, RECORD)
        server.resume()
        until(lambda: scripts_run() > before, "the late publish is carried out")
    assert await store.get(KEY) is None
    assert await store.publish(KEY, RECORD) is Published.TAKEN
    await store.close()
