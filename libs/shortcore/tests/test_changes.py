import asyncio
import time

import pytest
from harness.stopwatch import Stopwatch

from shortcore.cache.change_feed import START, Change, ChangeFeed, FeedUnreadable, entry_order
from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import MAX_VERSION
from shortcore.links.record import LinkKey
from shortcore.storage.redis import open_redis


def change(number):
    return Change(LinkKey(f"go.example/{number}"), number, 1_700_000_000_000 + number)


@pytest.fixture
async def client(redis_url):
    made = open_redis(redis_url, timeout_ms=2000, pool_size=8, application="test")
    yield made
    await made.aclose()


@pytest.fixture
def keys(redis_prefix):
    return CacheKeys(redis_prefix)


@pytest.fixture
def feed(client, keys):
    return ChangeFeed(client, keys, max_length=1000, max_age_s=3600)


async def read_all(feed, position):
    changes, gap = [], False
    while True:
        batch = await feed.read(position, wait_ms=1)
        gap |= batch.gap
        if batch.position == position:
            return changes, position, gap
        position = batch.position
        changes += batch.changes


async def test_a_reader_gets_all_changes_in_order_from_its_position(feed):
    await feed.append([change(1), change(2)])
    position = await feed.end()
    for number in range(3, 203):
        await feed.append([change(number)])
    changes, end, gap = await read_all(feed, position)
    assert changes == [change(number) for number in range(3, 203)]
    assert end == await feed.end()
    assert not gap


async def test_an_empty_feed_ends_at_its_start_and_its_first_entry_is_no_gap(feed):
    assert await feed.end() == START
    batch = await feed.read(START, wait_ms=1)
    assert (batch.changes, batch.position, batch.gap) == ((), START, False)
    await feed.append([change(1)])
    batch = await feed.read(START, wait_ms=1)
    assert (list(batch.changes), batch.gap) == ([change(1)], False)


async def test_a_waiting_reader_wakes_when_an_entry_is_appended(feed):
    took = Stopwatch()
    waiting = asyncio.create_task(feed.read(START, wait_ms=1900))
    await asyncio.sleep(0)
    await feed.append([change(1)])
    batch = await waiting
    assert list(batch.changes) == [change(1)]
    assert took.seconds < 1


async def until_after(client, position):
    """Wait until the server's clock gives ids that are greater than `position`."""
    while True:
        seconds, micros = await client.time()
        if seconds * 1000 + micros // 1000 > entry_order(position)[0]:
            return


async def test_a_reader_whose_position_was_trimmed_away_sees_a_gap(feed, client, keys):
    await feed.append([change(1)])
    position = await feed.end()
    for number in range(2, 6):
        await feed.append([change(number)])
    await client.xtrim(keys.changes, maxlen=2, approximate=False)
    batch = await feed.read(position, wait_ms=1)
    assert batch.gap
    assert list(batch.changes) == [change(4), change(5)]


async def test_a_reader_at_the_last_entry_before_the_trim_sees_none(feed, client, keys):
    for number in range(1, 4):
        await feed.append([change(number)])
    position = await feed.end()
    for number in range(4, 6):
        await feed.append([change(number)])
    await client.xtrim(keys.changes, maxlen=2, approximate=False)
    batch = await feed.read(position, wait_ms=1)
    assert not batch.gap
    assert list(batch.changes) == [change(4), change(5)]


async def test_a_feed_that_lost_entries_is_a_gap_even_if_nobody_appends(feed, client, keys):
    await feed.append([change(1)])
    saved = await client.dump(keys.changes)
    old_end = await feed.end()
    await feed.append([change(2)])
    position = await feed.end()
    await client.restore(keys.changes, 0, saved, replace=True)
    batch = await feed.read(position, wait_ms=1)
    assert (batch.gap, batch.position) == (True, old_end)
    assert not (await feed.read(old_end, wait_ms=1)).gap


async def test_a_feed_that_lost_entries_and_got_new_ones_is_a_gap(feed, client, keys):
    await feed.append([change(1)])
    saved = await client.dump(keys.changes)
    await feed.append([change(2)])
    position = await feed.end()
    await client.restore(keys.changes, 0, saved, replace=True)
    await until_after(client, position)
    await feed.append([change(3)])
    batch = await feed.read(position, wait_ms=1)
    assert batch.gap
    assert list(batch.changes) == [change(3)]


async def test_a_feed_that_lost_entries_and_got_new_ones_with_earlier_ids_is_a_gap(
    feed, client, keys
):
    # Within one millisecond the number of an id is random: the new entry may sort before the lost.
    await feed.append([change(1)])
    saved = await client.dump(keys.changes)
    position = f"{int(time.time() * 1000) + 60_000}-0"
    await client.xadd(keys.changes, {"d": b"\x90", "p": await feed.end()}, id=position)
    await client.restore(keys.changes, 0, saved, replace=True)
    new = await feed.append([change(3)])
    batch = await feed.read(position, wait_ms=1)
    assert (batch.gap, batch.position) == (True, new)


async def test_a_new_entry_never_has_the_id_of_a_lost_one(feed, client, keys):
    # A new primary whose clock is behind uses the same milliseconds again.
    await feed.append([change(1)])
    saved = await client.dump(keys.changes)
    future = int(time.time() * 1000) + 60_000
    ids = set()
    for _ in range(20):
        await client.restore(keys.changes, 0, saved, replace=True)
        await client.xadd(keys.changes, {"d": b"\x90", "p": "0-0"}, id=f"{future}-0")
        ids.add(await feed.append([change(2)]))
    assert len(ids) == 20
    assert {entry_order(each)[0] for each in ids} == {future}


async def test_the_length_of_the_feed_is_bounded(client, keys):
    feed = ChangeFeed(client, keys, max_length=200, max_age_s=3600)
    for number in range(1, 701):
        await feed.append([change(number)])
    # Redis trims whole nodes of 100 entries.
    assert 200 <= await client.xlen(keys.changes) <= 300


async def test_entries_older_than_the_age_are_dropped_but_never_the_newest(client, keys):
    feed = ChangeFeed(client, keys, max_length=1000, max_age_s=60)
    hour_ago = int(time.time() * 1000) - 3_600_000
    for number in range(250):
        await client.xadd(keys.changes, {"d": b"\x90", "p": "0-0"}, id=f"{hour_ago + number}-1")
    entry = await feed.append([change(1)])
    assert await client.xlen(keys.changes) <= 101
    assert await feed.end() == entry


async def test_concurrent_appends_form_one_chain(feed):
    await asyncio.gather(*(feed.append([change(number)]) for number in range(1, 101)))
    changes, _, gap = await read_all(feed, START)
    assert not gap
    assert sorted(each.version for each in changes) == list(range(1, 101))


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1, 2**63])
async def test_an_entry_with_an_impossible_version_is_unreadable(feed, version):
    await feed.append([Change(LinkKey("go.example/a"), version, 1)])
    with pytest.raises(FeedUnreadable, match="ValidationError"):
        await feed.read(START, wait_ms=1)


async def test_an_entry_without_our_fields_is_unreadable(feed, client, keys):
    await client.xadd(keys.changes, {b"of": b"somebody else"})
    with pytest.raises(FeedUnreadable, match="KeyError"):
        await feed.read(START, wait_ms=1)


def test_entry_ids_compare_as_numbers():
    assert entry_order("9-9") < entry_order("9-10") < entry_order("10-0")
