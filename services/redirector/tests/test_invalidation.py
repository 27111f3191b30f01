"""How a change reaches the local cache through the feed."""

import asyncio
import time

from harness.proxy import Mode, Proxy
from harness.waiting import until_async

from redirector.lookup.invalidation import AT_ONCE
from shortcore.cache.change_feed import Batch, Change, ChangeFeed
from shortcore.cache.keys import CacheKeys
from shortcore.links.record import LinkKey
from shortcore.storage.redis import open_redis

KEY = LinkKey("go.example/abc")


async def test_an_announced_edit_is_seen_at_once_and_a_flush_makes_all_stale(
    run, table, redis_url, redis_prefix
):
    await table.link("abc", "https://old.example/")
    app = await run(seconds=time.monotonic)
    feed, cache = app.redirector.invalidation, app.redirector.cache
    client = open_redis(redis_url, timeout_ms=1000, pool_size=2, application="test")
    writer = ChangeFeed(client, CacheKeys(redis_prefix), max_length=100, max_age_s=60)
    await until_async(lambda: feed.connected, "the change feed is followed")
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    version = await table.edit("abc", target="https://new.example/")
    await writer.append([Change(KEY, version, app.redirector.lookup._now_ms())])
    await until_async(lambda: cache.floor(KEY) == version, "the new version is known")
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"
    await client.flushall()
    await until_async(lambda: feed.gaps == 1, "the gap is noticed")
    assert cache.get(KEY) is None
    assert cache.stale(KEY) is not None
    await client.aclose()


async def test_while_the_feed_is_cut_no_code_is_refused_unasked(
    run, table, redis_url, redis_prefix, clock
):
    await table.link("Promo", "https://promo.example/", custom=True)
    with Proxy(redis_url) as wire:
        app = await run(redis_url=wire.url, unknown_lookups_per_s=1)
        feed, known = app.redirector.invalidation, app.redirector.custom_codes
        client = open_redis(redis_url, timeout_ms=1000, pool_size=2, application="test")
        relay = ChangeFeed(client, CacheKeys(redis_prefix), max_length=100, max_age_s=60)
        await until_async(lambda: feed.connected, "the change feed is followed")
        await known.load()
        await relay.append([])
        await until_async(known.trusted, "the custom codes are trusted")
        wire.set(Mode.REFUSE)
        await until_async(lambda: not feed.connected, "the change feed is lost")
        assert not known.trusted()
        wire.set(Mode.PASS)
        await until_async(lambda: feed.connected, "the change feed is followed")
        assert not known.trusted()
        await relay.append([])
        await until_async(known.trusted, "the custom codes are trusted")
        await client.aclose()


async def test_requests_have_their_turn_while_very_many_changes_are_applied(run):
    app = await run()
    turns, done = 0, asyncio.Event()

    async def others():
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    changes = [Change(LinkKey(f"go.example/code-{number}"), 7, 0) for number in range(20_000)]
    await app.redirector.invalidation._apply(Batch(changes, "1-1", gap=False))
    done.set()
    await task
    assert turns >= 20_000 // AT_ONCE
    assert app.redirector.custom_codes.holds("go.example/code-19999")
