"""A Redis that takes no writes is still read: its refusals are answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from shortcore.breaker import Breaker, State
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore, Lifetimes
from shortcore.errors import CacheUnavailable
from shortcore.links import Kind, LinkRecord, link_key
from shortcore.redis import open_redis
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


@contextmanager
def connected(server: EmbeddedValkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.mark.parametrize("refuse", [fill_up, demote])
async def test_refused_writes_keep_nobody_from_reading(
    server: EmbeddedValkey, refuse: Callable[["redis.Redis"], None]
) -> None:
    client = open_redis(server.url, timeout_ms=500, pool_size=4, application="test")
    store = CacheStore(
        client,
        CacheKeys(""),
        lifetimes=Lifetimes(60_000, 1000, 60_000, 2000),
        timeout_ms=500,
        breaker=Breaker(failures=3, open_s=60, clock=time.monotonic),
        now_ms=lambda: time.time_ns() // 1_000_000,
    )
    await store.publish(KEY, RECORD)
    with connected(server) as direct:
        refuse(direct)
    for number in range(10):
        with pytest.raises(CacheUnavailable, match="refuses"):
            await store.publish(link_key("go.example", str(number)), RECORD)
    with pytest.raises(CacheUnavailable):
        await store.publish_many([(KEY, LinkRecord(2, Kind.ACTIVE)), (KEY, RECORD)])
    assert store.breaker.state is State.CLOSED
    assert await store.get(KEY) == RECORD
    await store.close()
