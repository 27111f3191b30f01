"""The limit per link on password checks, over all redirectors and without Redis."""

import time
from contextlib import AsyncExitStack

import pytest

from redirector.passwords.pacer import Pacer
from shortcore.cache.keys import CacheKeys
from shortcore.links.record import LinkKey
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import open_redis

KEY = LinkKey("go.example/abc")
NO_REDIS = "redis://127.0.0.1:1"


@pytest.fixture
async def client_of():
    async with AsyncExitStack() as stack:

        def open_client(url):
            client = open_redis(url, timeout_ms=2000, pool_size=4, application="test")
            stack.push_async_callback(client.aclose)
            return client

        yield open_client


def make(client, prefix, clock, **more) -> Pacer:
    breaker = Breaker(failures=3, open_s=1, clock=time.monotonic)
    settings = {"checks_per_s": 10, "burst": 3, "timeout_ms": 2000} | more
    return Pacer(client, CacheKeys(prefix), breaker, clock=clock, **settings)


async def test_slots_beyond_the_burst_are_apart_over_two_redirectors(
    client_of, redis_url, redis_prefix
):
    # Each process's own clock runs so fast that only Redis slows anybody down.
    fast = iter(range(0, 100_000, 100))
    pacers = [
        make(client_of(redis_url), redis_prefix, lambda: next(fast), checks_per_s=0.1)
        for _ in range(2)
    ]
    waits = [await pacers[number % 2].book(KEY) for number in range(6)]
    assert waits[:3] == [0, 0, 0]
    assert waits[3:] == pytest.approx([10, 20, 30], abs=3)
    for pacer in pacers:
        await pacer.give_back(KEY)
    assert await pacers[0].book(KEY) == pytest.approx(20, abs=3)
    assert await pacers[0].book(LinkKey("go.example/other")) == 0


async def test_a_schedule_in_redis_expires_and_a_corrupt_one_gives_way(
    client_of, redis_url, redis_prefix
):
    client = client_of(redis_url)
    pacer = make(client, redis_prefix, time.monotonic, checks_per_s=5, burst=10)
    await pacer.book(KEY)
    name = CacheKeys(redis_prefix).pace(KEY)
    assert 0 < await client.pttl(name) <= 201
    for corrupt in ("nonsense", str(10**15)):
        await client.set(name, corrupt)
        assert await pacer.book(KEY) == 0
    await client.delete(name)
    await client.lpush(name, "another type")
    assert await pacer.book(KEY) == 0


async def test_without_redis_each_process_keeps_the_limit(client_of, redis_prefix, clock):
    pacer = make(client_of(NO_REDIS), redis_prefix, clock)
    waits = [await pacer.book(KEY) for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2])
    await pacer.give_back(KEY)
    assert await pacer.book(KEY) == pytest.approx(0.2)
    clock.advance(60)
    assert await pacer.book(KEY) == 0


async def test_schedules_of_many_links_are_bounded(client_of, redis_prefix, clock):
    pacer = make(client_of(NO_REDIS), redis_prefix, clock)
    for number in range(10_500):
        pacer._book(LinkKey(f"go.example/{number}"), 1)
    assert len(pacer._due) == 10_000
