"""What Redis holds counts only as long as a relay is known to write to it."""

import time

import pytest
from harness.proxy import Mode, Proxy
from harness.waiting import until_async

from shortcore.cache.change_feed import Change, ChangeFeed
from shortcore.cache.keys import CacheKeys
from shortcore.cache.store import CacheStore
from shortcore.cache.ttls import CacheTtls
from shortcore.links.record import Kind, LinkKey, LinkRecord, absent
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import open_redis

KEY = LinkKey("go.example/abc")
OLD, NEW = "https://old.example/", "https://new.example/"


@pytest.fixture
async def client(redis_url):
    client = open_redis(redis_url, timeout_ms=1000, pool_size=2, application="test")
    yield client
    await client.aclose()


@pytest.fixture
def store(client, redis_prefix):
    return CacheStore(
        client,
        CacheKeys(redis_prefix),
        ttls=CacheTtls(60_000, 60_000, 60_000, 2000),
        timeout_ms=1000,
        breaker=Breaker(failures=3, open_s=1, clock=time.monotonic),
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


@pytest.fixture
def tell(client, redis_prefix, clock):
    """A function that puts a word on the feed, as a relay does, and waits for it to be heard."""
    feed = ChangeFeed(client, CacheKeys(redis_prefix), max_length=100, max_age_s=60)

    async def told(app):
        invalidation = app.redirector.invalidation

        async def heard():
            await feed.append([])
            return invalidation.connected and app.redirector.heartbeat.last_heartbeat_at >= clock()

        await until_async(heard, "the heartbeat is heard")

    return told


async def test_an_edit_that_redis_did_not_take_is_seen_a_life_after_the_last_word(
    run, table, store, tell, clock
):
    version = await table.link("abc", OLD)
    await store.publish(KEY, LinkRecord(version, Kind.ACTIVE, target=OLD))
    app = await run(l1_ttl_s=30)
    await tell(app)
    assert (await app.get("/abc")).headers["location"] == OLD
    assert app.count("redis", "hit") == 1
    await table.edit("abc", target=NEW)
    clock.advance(20)
    assert (await app.get("/abc")).headers["location"] == OLD
    clock.advance(12)
    assert (await app.get("/abc")).headers["location"] == NEW
    assert app.count("redis", "hit") == 1
    assert app.count("redis", "unconfirmed") == 1
    assert app.count("postgres", "hit") == 1


async def test_what_is_read_from_a_silent_redis_lives_no_longer_than_its_last_word(
    run, table, store, tell, clock
):
    version = await table.link("abc", OLD)
    await store.publish(KEY, LinkRecord(version, Kind.ACTIVE, target=OLD))
    app = await run(l1_ttl_s=30, l1_refresh_ahead=1)
    await tell(app)
    clock.advance(31)
    assert (await app.get("/abc")).headers["location"] == OLD
    assert app.count("redis", "hit") == 1
    await table.edit("abc", target=NEW)
    clock.advance(2)
    assert (await app.get("/abc")).headers["location"] == NEW


async def test_with_words_on_the_feed_redis_answers_alone(run, table, store, tell, clock):
    version = await table.link("abc", OLD)
    await store.publish(KEY, LinkRecord(version, Kind.ACTIVE, target=OLD))
    app = await run(l1_ttl_s=30)
    for number in range(3):
        await tell(app)
        assert (await app.get("/abc")).status_code == 302
        assert app.count("redis", "hit") == number + 1
        clock.advance(35)
    assert app.count("postgres", "hit") == 0


async def test_a_writers_word_of_a_code_to_come_is_no_word_of_a_relay(
    run, tell, clock, client, redis_prefix
):
    app = await run()
    await tell(app)
    heard = app.redirector.heartbeat.last_heartbeat_at
    clock.advance(20)
    feed = ChangeFeed(client, CacheKeys(redis_prefix), max_length=100, max_age_s=60)
    changes = app.redirector.invalidation.changes
    await feed.append([Change(LinkKey("go.example/to-come"), 0, clock.now_ms())])
    await until_async(
        lambda: app.redirector.invalidation.changes > changes, "the preannouncement is heard"
    )
    assert app.redirector.custom_codes.holds("go.example/to-come")
    assert app.redirector.heartbeat.last_heartbeat_at == heard


@pytest.mark.parametrize("away", [Mode.REFUSE, Mode.BLACK_HOLE])
async def test_a_silent_redis_is_believed_while_postgresql_cannot_be_asked(
    run, store, database_url, away
):
    await store.publish(KEY, LinkRecord(7, Kind.ACTIVE, target=OLD))
    await store.publish(LinkKey("go.example/none"), absent())
    with Proxy(database_url) as postgres:
        app = await run(postgres_url=postgres.url, postgres_timeout_ms=300, breaker_open_ms=600_000)
        postgres.set(away)
        for _ in range(3):
            assert (await app.get("/abc")).headers["location"] == OLD
            assert (await app.get("/none")).status_code == 503
            app.redirector.cache.expire()
        asked = app.count("postgres", "error")
        assert (await app.get("/abc")).headers["location"] == OLD
        assert app.count("postgres", "error") == asked, "it waited for what is away"


async def test_an_older_replica_does_not_undo_what_redis_told(
    run, databases, table, store, redis_prefix
):
    version = await table.link("abc", NEW)
    await store.publish(KEY, LinkRecord(version, Kind.ACTIVE, target=NEW))
    with databases.fresh() as behind:
        app = await run(postgres_read_url=behind)
        assert (await app.get("/abc")).headers["location"] == NEW
        assert app.count("replica", "outdated") == 1
