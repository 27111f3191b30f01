"""The relay with real PostgreSQL and Valkey: it loses no change and never goes back."""

import asyncio
import contextlib
import statistics
import time

import pytest
from harness.proxy import Proxy
from harness.relays import (
    HOST,
    RelayInProcess,
    all_changes,
    killed_before_delete,
    process,
    relay_in_process,
)
from harness.servers import flush
from harness.stopwatch import Stopwatch
from harness.waiting import until_async

from shortcore.cache.change_feed import Batch, Change, entry_order
from shortcore.errors import CacheUnavailable
from shortcore.links.record import Kind, LinkKey, LinkRecord, link_key
from shortctl.embedded import EmbeddedValkey
from shortctl.embedded.ports import free_port
from writer.relay import outbox
from writer.relay.feed_position import FeedPosition, read_position


async def test_a_batch_delivers_the_newest_version_of_each_link_once(one, links):
    await links.put("a", "https://old.example/")
    await links.put("b", "https://b.example/")
    newest = await links.put("a", "https://new.example/")
    assert await one.relay.delivery.deliver() == 3
    assert await one.target("a") == "https://new.example/"
    assert await one.target("b") == "https://b.example/"
    changes = await all_changes(one.feed)
    assert sorted(change.key for change in changes) == [f"{HOST}/a", f"{HOST}/b"]
    assert {c.key: c.version for c in changes}[LinkKey(f"{HOST}/a")] == newest
    assert await links.waiting() == 0
    assert await one.relay.delivery.deliver() == 0


async def test_a_batch_claims_the_oldest_rows_first(database_url, redis_url, redis_prefix, links):
    async with relay_in_process(database_url, redis_url, redis_prefix, relay_batch_size=2) as one:
        for code in "abc":
            await links.put(code, "https://x.example/")
        assert await one.relay.delivery.deliver() == 2
        assert [c.key for c in await all_changes(one.feed)] == [f"{HOST}/a", f"{HOST}/b"]


async def test_a_relay_that_was_delayed_after_its_claim_reads_the_batch_again(one, links):
    await links.put("a", "https://old.example/")
    await one.store.measure_clock()
    one.store.clock_offset_ms -= 5000  # as if the claim had been 5 s ago
    with pytest.raises(CacheUnavailable, match="too long ago"):
        await one.relay.delivery.deliver()
    assert await links.waiting() == 1
    assert await one.target("a") is None
    assert await all_changes(one.feed) == []
    version = await links.put("a", "https://new.example/")
    await one.store.measure_clock()
    assert await one.relay.delivery.deliver() == 2
    assert await one.target("a") == "https://new.example/"
    assert [change.version for change in await all_changes(one.feed)] == [version]


async def test_a_purged_link_leaves_a_tombstone_that_no_older_record_replaces(one, links):
    old = await links.put("a", "https://a.example/")
    await one.relay.delivery.deliver()
    version = await links.purge("a")
    await one.relay.delivery.deliver()
    stale = LinkRecord(old, Kind.ACTIVE, 1, "https://a.example/")
    await one.store.publish(link_key(HOST, "a"), stale)
    record = await one.store.get(link_key(HOST, "a"))
    assert (record.kind, record.version) == (Kind.ABSENT, version)


async def test_a_change_of_a_domain_is_appended_only_to_the_feed(one, links, redis_url):
    await links.sql.execute(
        "INSERT INTO outbox (domain_id, host, code, version) VALUES (1, $1, '', 7)", HOST
    )
    await one.relay.delivery.deliver()
    assert [(c.key, c.version) for c in await all_changes(one.feed)] == [(f"{HOST}/", 7)]
    assert await one.store.get(LinkKey(f"{HOST}/")) is None


async def test_two_relays_at_once_deliver_every_change_and_never_go_back(
    database_url, redis_url, redis_prefix, links
):
    final: dict[str, tuple[int, str]] = {}
    seen: dict[str, int] = {}
    async with (
        relay_in_process(database_url, redis_url, redis_prefix, relay_batch_size=7) as one,
        relay_in_process(database_url, redis_url, redis_prefix, relay_batch_size=5) as two,
    ):
        await one.relay.start()
        await two.relay.start()
        # At least so many, and until both have delivered some: one may be faster for a while.
        for round_ in range(3000):
            if round_ >= 60 and one.relay.delivery.batches and two.relay.delivery.batches:
                break
            for code in "abcde":
                target = f"https://{code}.example/{round_}"
                final[code] = (await links.put(code, target), target)
            for code in "abcde":
                record = await one.store.get(link_key(HOST, code))
                if record is not None:
                    assert record.version >= seen.get(code, 0)
                    seen[code] = record.version

        async def empty() -> bool:
            return await links.waiting() == 0

        await until_async(empty, "the outbox is empty")
        for code, (version, target) in final.items():
            record = await two.store.get(link_key(HOST, code))
            assert (record.version, record.target) == (version, target)
        newest: dict[LinkKey, int] = {}
        for change in await all_changes(one.feed):
            newest[change.key] = max(newest.get(change.key, 0), change.version)
        assert newest == {link_key(HOST, code): version for code, (version, _) in final.items()}
        assert one.relay.delivery.batches > 0
        assert two.relay.delivery.batches > 0


@pytest.mark.fault
async def test_changes_wait_for_redis_and_are_delivered_when_it_recovers(
    database_url, redis_prefix, links, server_folder
):
    valkey = EmbeddedValkey(server_folder / "valkey")
    valkey.start()
    try:
        async with relay_in_process(database_url, valkey.url, redis_prefix) as one:
            await one.relay.start()
            valkey.stop()
            for number in range(20):
                await links.put(f"c{number}", f"https://c.example/{number}")

            async def failing() -> bool:
                return (
                    one.relay.stopping.errors["redis"] >= 2 and one.relay.monitor.backlog.rows == 20
                )

            await until_async(failing, "two deliveries failed")
            assert one.relay.monitor.backlog.oldest_s > 0
            assert await links.waiting() == 20
            valkey.start()

            async def arrived() -> bool:
                return await links.waiting() == 0 and await one.target("c19") is not None

            await until_async(arrived, "the last link is in Redis")
            assert await one.target("c0") == "https://c.example/0"
    finally:
        valkey.stop()


@pytest.mark.fault
async def test_a_relay_killed_between_feed_and_delete_delivers_its_batch_again(
    database_url, redis_url, redis_prefix, links, tmp_path, one
):
    async with killed_before_delete(
        one, database_url, redis_url, redis_prefix, tmp_path / "log", told=10
    ):
        for number in range(10):
            await links.put(f"c{number}", f"https://c.example/{number}")

    async def released() -> bool:
        return await one.relay.delivery.deliver() == 10

    await until_async(released, "the rows of the killed relay are delivered")
    assert len(await all_changes(one.feed)) == 20
    assert await links.waiting() == 0


@pytest.mark.fault
async def test_the_batch_of_a_relay_killed_while_redis_hangs_is_delivered_by_another(
    database_url, redis_prefix, links, tmp_path, server_folder
):
    valkey = EmbeddedValkey(server_folder / "valkey")
    valkey.start()
    valkey.pause()
    try:
        await links.put("a", "https://a.example/")
        with process(
            database_url, valkey.url, redis_prefix, tmp_path / "log", relay_redis_timeout_ms=60_000
        ) as victim:

            async def claimed() -> bool:
                rows = await links.sql.fetch("SELECT 1 FROM outbox FOR UPDATE SKIP LOCKED")
                return not rows

            await until_async(claimed, "the relay has claimed all rows")
            victim.kill()
            victim.wait()
        valkey.resume()
        async with relay_in_process(database_url, valkey.url, redis_prefix) as one:

            async def arrived() -> bool:
                await one.relay.delivery.deliver()
                return await one.target("a") == "https://a.example/"

            await until_async(arrived, "the last link is in Redis")
    finally:
        valkey.resume()
        valkey.stop()


@pytest.mark.fault
async def test_sigterm_ends_a_relay_in_order_even_while_it_waits_for_its_servers(
    database_url, redis_url, redis_prefix, links, tmp_path
):
    await links.put("a", "https://a.example/")
    with process(database_url, redis_url, redis_prefix, tmp_path / "log") as relay:

        async def delivered() -> bool:
            return await links.waiting() == 0

        await until_async(delivered, "the outbox is empty")
        relay.terminate()
        assert await asyncio.to_thread(relay.wait, 10) == 0
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    log = tmp_path / "waiting"
    with process(nowhere, redis_url, redis_prefix, log, log_format="json") as relay:

        async def waiting() -> bool:
            return "waiting for the database" in log.read_text()

        await until_async(waiting, "the relay waits for the database")
        relay.terminate()
        assert await asyncio.to_thread(relay.wait, 10) == 0


async def test_the_feed_position_is_stored_with_the_deletion(one, links):
    await one.relay.monitor.check()
    await links.put("a", "https://a.example/")
    await one.relay.delivery.deliver()
    position = await read_position(links.sql)
    assert position.last == entry_order(await one.feed.end())
    await one.relay.monitor.check()
    assert one.relay.monitor.rollbacks == 0


async def snapshot(one: RelayInProcess) -> dict[bytes, bytes]:
    client = one.relay.monitor._client
    return {key: await client.dump(key) for key in await client.keys("*")}


async def go_back(one: RelayInProcess, saved: dict[bytes, bytes]) -> None:
    """Do to the keys what a restart from an old snapshot does."""
    client = one.relay.monitor._client
    await client.flushall()
    for key, value in saved.items():
        await client.restore(key, 0, value)


async def test_changes_that_redis_lost_are_republished(one, links):
    await one.relay.monitor.check()
    for code in "abc":
        await links.put(code, "https://old.example/")
    await one.relay.delivery.deliver()
    saved = await snapshot(one)
    end_then = await one.feed.end()
    newest = await links.put("a", "https://new.example/")
    await one.relay.delivery.deliver()
    await go_back(one, saved)
    assert await one.target("a") == "https://old.example/"
    assert await one.feed.end() == end_then

    await one.relay.monitor.check()
    assert one.relay.monitor.rollbacks == 1
    while await one.relay.monitor.republish():
        pass
    assert await one.target("a") == "https://new.example/"
    batch = await one.feed.read(end_then, wait_ms=1)
    assert Change(link_key(HOST, "a"), newest, batch.changes[0].at_ms) == batch.changes[0]
    assert await links.sql.fetchval("SELECT count(*) FROM republish") == 0
    await one.relay.monitor.check()
    assert one.relay.monitor.rollbacks == 1


@pytest.mark.parametrize(
    ("servers", "last", "restarted"),
    [
        ("b", (0, 0), True),
        ("b", (7, 1), True),
        ("b", (8, 0), True),
        ("b", (7, 0), False),  # a replica that was behind took over
        ("a", (0, 0), False),  # somebody emptied it
        ("a", (7, 0), False),
    ],
)
def test_a_restart_of_redis_is_distinguished_from_a_rollback(servers, last, restarted):
    known = FeedPosition("a", (7, 1))
    assert known.is_restart(FeedPosition(servers, last)) is restarted


async def test_a_relay_that_starts_after_a_rollback_detects_it(
    one, database_url, redis_url, redis_prefix, links
):
    await one.relay.monitor.check()
    await links.put("a", "https://old.example/")
    await one.relay.delivery.deliver()
    saved = await snapshot(one)
    await links.put("a", "https://new.example/")
    await one.relay.delivery.deliver()
    await go_back(one, saved)
    async with relay_in_process(database_url, redis_url, redis_prefix) as later:
        await later.relay.start()

        async def repaired() -> bool:
            return await later.target("a") == "https://new.example/"

        await until_async(repaired, "the edit is in Redis")


async def test_a_purged_link_does_not_come_back_after_a_rollback(one, links):
    await one.relay.monitor.check()
    for code in "ab":
        await links.put(code, "https://old.example/")
    await one.relay.delivery.deliver()
    saved = await snapshot(one)
    for code in "ab":
        await links.purge(code)
    await links.put("b", "https://new.example/")
    await one.relay.delivery.deliver()
    await go_back(one, saved)
    assert await one.target("a") == await one.target("b") == "https://old.example/"

    await one.relay.monitor.check()
    assert await one.relay.delivery.deliver() == 2
    assert (await one.store.get(link_key(HOST, "a"))).kind is Kind.ABSENT
    assert await one.target("b") == "https://new.example/"


async def test_a_purge_is_recorded_for_as_long_as_redis_can_have_the_link(one, links):
    for code, hours in (("a", 23), ("b", 25)):
        await links.put(code, "https://x.example/")
        await links.purge(code)
        await links.sql.execute(
            "UPDATE purged SET purged_at = now() - $1 * interval '1 hour' WHERE code = $2",
            hours,
            code,
        )
    await one.relay.monitor.check()
    assert await links.sql.fetchval("SELECT array_agg(code) FROM purged") == ["a"]


async def test_a_republish_continues_where_another_relay_stopped(
    database_url, redis_url, redis_prefix, links
):
    settings = {"relay_batch_size": 2}
    async with (
        relay_in_process(database_url, redis_url, redis_prefix, **settings) as one,
        relay_in_process(database_url, redis_url, redis_prefix, **settings) as two,
    ):
        await one.relay.monitor.check()
        codes = "abcdefg"
        for code in codes:
            await links.put(code, f"https://{code}.example/")
        while await one.relay.delivery.deliver():
            pass
        flush(redis_url)
        await one.relay.monitor.check()
        await two.relay.monitor.check()
        assert one.relay.monitor.rollbacks + two.relay.monitor.rollbacks == 1
        assert await one.relay.monitor.republish() == 2
        sent = [await two.relay.monitor.republish() for _ in range(4)]
        assert sent == [2, 2, 1, 0]
        assert [await one.target(code) for code in codes] == [
            f"https://{c}.example/" for c in codes
        ]


async def test_a_link_unchanged_for_longer_than_every_ttl_is_not_republished(one, links):
    await one.relay.monitor.check()
    await links.put("old", "https://old.example/")
    await links.put("new", "https://new.example/")
    await links.sql.execute(
        "UPDATE links SET updated_at = now() - interval '25 hours' WHERE code = 'old'"
    )
    await one.relay.delivery.deliver()
    flush(one.settings.redis_url.get_secret_value())
    await one.relay.monitor.check()
    assert await one.relay.monitor.republish() == 1
    assert await one.target("old") is None


async def test_flushing_redis_shows_readers_of_the_feed_a_gap(one, links):
    await one.relay.monitor.check()
    await links.put("a", "https://a.example/")
    await one.relay.delivery.deliver()
    position = await one.feed.end()
    flush(one.settings.redis_url.get_secret_value())
    batch = await one.feed.read(position, wait_ms=1)
    assert batch.gap
    await links.put("b", "https://b.example/")
    await one.relay.delivery.deliver()
    batch = await one.feed.read(position, wait_ms=1)
    assert batch.gap
    assert [change.key for change in batch.changes] == [f"{HOST}/b"]


@pytest.mark.fault
async def test_another_server_behind_the_same_url_is_detected(
    database_url, redis_prefix, links, server_folder
):
    valkey = EmbeddedValkey(server_folder / "valkey")
    valkey.start()
    try:
        async with relay_in_process(database_url, valkey.url, redis_prefix) as one:
            await one.relay.start()
            await links.put("a", "https://a.example/")

            async def there() -> bool:
                known = await read_position(links.sql)
                return known is not None and await links.waiting() == 0

            await until_async(there, "the position in the feed is stored")
            valkey.kill()
            valkey.start()

            async def again() -> bool:
                # The first call may still meet the connection of the killed server.
                with contextlib.suppress(CacheUnavailable):
                    return await one.target("a") == "https://a.example/"
                return False

            await until_async(again, "the link is in Redis")
            assert one.relay.monitor.rollbacks == 1
    finally:
        valkey.stop()


async def test_a_notified_change_is_delivered_within_milliseconds(
    database_url, redis_url, redis_prefix, links, capsys
):
    async with relay_in_process(database_url, redis_url, redis_prefix, relay_poll_ms=60_000) as one:
        await one.relay.start()

        async def listening() -> bool:
            return bool(
                await links.sql.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name = 'shortlinks-relay-listen' AND query LIKE 'LISTEN%'"
                )
            )

        await until_async(listening, "the relay listens")
        position = await one.feed.end()
        took = []
        for number in range(100):
            await links.put("a", f"https://a.example/{number}")
            committed, watch = time.perf_counter(), Stopwatch()
            await links.sql.execute(f"NOTIFY {outbox.CHANNEL}")

            async def read(position: str = position) -> Batch | None:
                batch = await one.feed.read(position, wait_ms=500)
                return batch if batch.changes else None

            batch = await until_async(read, "the change is on the feed")
            took.append((time.perf_counter() - committed) * 1000)
            assert watch.seconds < 0.5
            position = batch.position
    took.sort()
    with capsys.disabled():
        print(f"\ncommit to feed: p50 {statistics.median(took):.1f} ms, p99 {took[98]:.1f} ms")  # noqa: T201  # the figure is part of the result


@pytest.mark.fault
async def test_listening_resumes_when_its_connection_is_cut(
    database_url, redis_url, redis_prefix, links
):
    listener = (
        "FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'shortlinks-relay-listen' AND query LIKE 'LISTEN%'"
    )
    async with relay_in_process(database_url, redis_url, redis_prefix) as one:
        await one.relay.start()

        async def listening() -> bool:
            return bool(await links.sql.fetchval(f"SELECT count(*) {listener}"))

        await until_async(listening, "the relay listens")
        first = await links.sql.fetchval(f"SELECT pid {listener}")
        await links.sql.fetchval("SELECT pg_terminate_backend($1)", first)

        async def another() -> bool:
            pid = await links.sql.fetchval(f"SELECT max(pid) {listener}")
            return pid not in (None, first)

        await until_async(another, "another connection listens")


@pytest.mark.fault
async def test_listening_resumes_when_its_connection_stops_answering(
    database_url, redis_url, redis_prefix, links, monkeypatch
):
    monkeypatch.setattr("writer.relay.listener.CHECK_INTERVAL_S", 0.1)
    monkeypatch.setattr("writer.relay.listener.TIMEOUT_S", 1.0)
    with Proxy(database_url) as wire:
        async with relay_in_process(wire.url, redis_url, redis_prefix, relay_poll_ms=60_000) as one:
            await one.relay.start()

            async def heard(code: str) -> bool:
                await links.put(code, "https://a.example/")
                await links.sql.execute(f"NOTIFY {outbox.CHANNEL}")
                await asyncio.sleep(0.05)
                return await links.waiting() == 0

            await until_async(lambda: heard("a"), "the relay is woken")
            wire.forget()
            await until_async(lambda: heard("b"), "the relay is woken")
