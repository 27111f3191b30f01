"""Links created in bulk share an outbox row, and have a queue that delays no edit."""

import time
from datetime import UTC, datetime

import pytest
from harness.relays import HOST, all_changes, killed_before_delete, relay_in_process
from harness.stopwatch import Stopwatch
from harness.tables import Table
from harness.waiting import until_async

from shortcore.cache.change_feed import entry_order
from shortcore.links.record import Kind, LinkKey, link_key
from writer.relay import outbox
from writer.relay.feed_position import read_position

CLAIM_OF_THE_PREVIOUS_RELEASE = """
DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING code
"""


def codes(count, prefix="c"):
    return [f"{prefix}{number}" for number in range(count)]


def keys(names):
    return {LinkKey(f"{HOST}/{code}") for code in names}


async def all_bulk(relay):
    while await relay.delivery.deliver_bulk():
        pass


async def test_a_copy_has_one_outbox_row_and_each_custom_code_its_own(links):
    await links.copy(codes(300), custom=("c7", "c8", "c9"))
    assert await links.waiting_many() == 1
    assert await links.sql.fetchval("SELECT links FROM outbox_many") == 297
    found = "SELECT count(*) FROM links JOIN outbox_many ON updated_at = changed_at AND NOT custom"
    assert await links.sql.fetchval(found) == 297  # to the microsecond
    rows = await links.sql.fetch(
        "SELECT o.id, o.code FROM outbox o JOIN links USING (domain_id, code, version)"
    )
    assert {row["code"] for row in rows} == {"c7", "c8", "c9"}
    assert min(row["id"] for row in rows) > outbox.BULK


async def test_every_link_of_a_copy_reaches_redis_and_the_feed_and_the_outbox_is_empty(one, links):
    names = codes(1200)
    await links.copy(names, custom=names[:3])
    assert await one.relay.delivery.deliver() == 0
    assert await one.relay.delivery.deliver_bulk() == 3  # the chosen ones first
    assert {change.key for change in await all_changes(one.feed)} == keys(names[:3])
    assert await one.relay.delivery.deliver_bulk() == 1197
    assert await one.relay.delivery.deliver_bulk() == 0
    changes = await all_changes(one.feed)
    versions = dict(await links.sql.fetch("SELECT code, version FROM links"))
    assert {c.key: c.version for c in changes} == {
        link_key(HOST, code): version for code, version in versions.items()
    }
    for code in names:
        record = await one.store.get(link_key(HOST, code))
        assert (record.target, record.version) == (f"https://{code}.example/", versions[code])
    assert await links.waiting() == await links.waiting_many() == 0


async def test_a_link_that_changed_after_its_copy_is_never_published_in_its_old_state(one, links):
    await links.copy(codes(100))
    await links.put("c1", "https://new.example/")
    await Table(links.sql).edit("c2", deleted=True, updated_at=datetime.now(UTC))
    version = await links.purge("c3")
    await one.relay.delivery.deliver()
    position = await one.feed.end()
    assert await one.relay.delivery.deliver_bulk() == 97
    told = {change.key for change in (await one.feed.read(position, wait_ms=1)).changes}
    assert told == keys(codes(100)) - keys(["c1", "c2", "c3"])
    assert await one.target("c1") == "https://new.example/"
    assert await one.store.get(link_key(HOST, "c2")) is None  # its own row was not written here
    absent = await one.store.get(link_key(HOST, "c3"))
    assert (absent.kind, absent.version) == (Kind.ABSENT, version)


async def test_an_edit_that_commits_while_its_copy_is_delivered_is_not_overwritten(
    one, links, monkeypatch
):
    await links.copy(codes(100))
    offered = one.store.publish_many

    async def late(records, *, read_at_ms):
        if len(records) > 1:  # the bulk has read its links: now one is edited and delivered
            await links.put("c1", "https://new.example/")
            await one.relay.delivery.deliver()
        return await offered(records, read_at_ms=read_at_ms)

    monkeypatch.setattr(one.store, "publish_many", late)
    assert await one.relay.delivery.deliver_bulk() == 100
    assert await one.target("c1") == "https://new.example/"
    assert one.relay.delivery.published["older"] == 1


async def test_a_row_whose_links_have_all_changed_is_deleted_without_a_feed_entry(one, links):
    await links.copy(codes(100))
    await links.sql.execute("UPDATE links SET updated_at = clock_timestamp()")
    assert await one.relay.delivery.deliver_bulk() == 1
    assert await links.waiting_many() == 0
    assert await all_changes(one.feed) == []


async def test_two_copies_with_the_same_timestamp_are_both_delivered(one, links):
    await links.copy(codes(100, "a"))
    await links.copy(codes(100, "b"))
    await links.sql.execute("UPDATE links SET updated_at = (SELECT min(updated_at) FROM links)")
    await links.sql.execute(
        "UPDATE outbox_many SET changed_at = (SELECT min(updated_at) FROM links)"
    )
    await all_bulk(one.relay)
    told = {change.key for change in await all_changes(one.feed)}
    assert told == keys(codes(100, "a")) | keys(codes(100, "b"))
    assert await one.target("b99") == "https://b99.example/"


async def test_a_bulk_delivery_stores_the_feed_position(one, links):
    await one.relay.monitor.check()
    await links.copy(codes(100))
    await one.relay.delivery.deliver_bulk()
    assert (await read_position(links.sql)).last == entry_order(await one.feed.end())
    await one.relay.monitor.check()
    assert one.relay.monitor.rollbacks == 0


async def test_an_edit_does_not_wait_for_earlier_imports(
    database_url, redis_url, redis_prefix, links
):
    for number in range(20):
        await links.copy(codes(500, f"{number}-"), custom=[f"{number}-{each}" for each in (1, 2)])
    settings = {"relay_bulk_rate": 1000, "relay_poll_ms": 20}
    async with relay_in_process(database_url, redis_url, redis_prefix, **settings) as one:
        await one.relay.start()

        async def under_way() -> bool:
            return one.relay.delivery.bulk_links > 0

        await until_async(under_way, "the first links are in Redis")
        took = []
        for number in range(20):
            target = f"https://new.example/{number}"
            watch = Stopwatch()
            await links.put("edited", target)

            async def seen(target: str = target) -> bool:
                return await one.target("edited") == target

            await until_async(seen, "the edit is in Redis")
            took.append(watch.seconds)
        assert sorted(took)[10] < 0.5
        assert await links.waiting_many() > 10, "the backlog was gone too soon to show anything"


async def test_links_created_in_bulk_are_delivered_at_the_bulk_rate(
    database_url, redis_url, redis_prefix, links
):
    for number in range(3):
        await links.copy(codes(200, f"{number}-"))
    async with relay_in_process(database_url, redis_url, redis_prefix, relay_bulk_rate=500) as one:
        began = time.monotonic()
        await one.relay.start()

        async def empty() -> bool:
            return await links.waiting_many() == 0

        await until_async(empty, "the outbox is empty")
        assert time.monotonic() - began > 0.79  # two pauses of 0.4 s


async def test_two_relays_share_the_links_created_in_bulk_and_lose_none(
    database_url, redis_url, redis_prefix, links
):
    parts = [codes(150, f"{number}-") for number in range(12)]
    for part in parts:
        await links.copy(part)
    names = [code for part in parts for code in part]
    settings = {"relay_bulk_rate": 3000}
    async with (
        relay_in_process(database_url, redis_url, redis_prefix, **settings) as one,
        relay_in_process(database_url, redis_url, redis_prefix, **settings) as two,
    ):
        await one.relay.start()
        await two.relay.start()

        async def empty() -> bool:
            return await links.waiting_many() == 0

        await until_async(empty, "the outbox is empty")
        assert {change.key for change in await all_changes(one.feed)} == keys(names)
        assert one.relay.delivery.bulk_links + two.relay.delivery.bulk_links == len(names)
        assert one.relay.delivery.bulk_links > 0
        assert two.relay.delivery.bulk_links > 0


async def test_a_relay_of_the_previous_release_leaves_bulk_rows_to_a_newer_relay(one, links):
    await links.copy(codes(200), custom=("c5", "c6"))
    await links.put("edited", "https://new.example/")
    first = await links.sql.fetch(CLAIM_OF_THE_PREVIOUS_RELEASE, 1)
    assert [row["code"] for row in first] == ["edited"]  # though it came last
    rest = await links.sql.fetch(CLAIM_OF_THE_PREVIOUS_RELEASE, 1000)
    assert {row["code"] for row in rest} == {"c5", "c6"}
    assert await links.waiting() == 0
    assert await one.relay.delivery.deliver_bulk() == 198
    assert await one.target("c7") == "https://c7.example/"


async def test_waiting_generated_codes_do_not_stop_the_heartbeats(one, links):
    async def all_told() -> bool:
        position = await one.feed.end()
        await one.relay.monitor.check()
        return (await one.feed.read(position, wait_ms=1)).all_told

    await one.relay.monitor.check()
    await links.copy(codes(100))
    assert await all_told()
    await links.copy(codes(100, "d"), custom=["d1"])
    assert not await all_told()
    assert one.relay.monitor.backlog.rows == 0  # no edit waits
    assert one.relay.monitor.backlog.bulk_links == 200
    assert one.relay.monitor.backlog.bulk_oldest_s > 0
    await all_bulk(one.relay)
    assert await all_told()
    assert (one.relay.monitor.backlog.bulk_links, one.relay.monitor.backlog.bulk_oldest_s) == (0, 0)


@pytest.mark.fault
async def test_a_relay_killed_between_feed_and_delete_of_a_bulk_delivers_it_again(
    database_url, redis_url, redis_prefix, links, tmp_path, one
):
    async with killed_before_delete(
        one, database_url, redis_url, redis_prefix, tmp_path / "log", told=700
    ):
        await links.copy(codes(700))

    async def released() -> bool:
        return await one.relay.delivery.deliver_bulk() == 700

    await until_async(released, "the rows of the killed relay are delivered")
    assert len(await all_changes(one.feed)) == 1400
    assert await links.waiting_many() == 0
