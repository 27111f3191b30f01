"""The worker with real PostgreSQL and Valkey: each click counts once, whatever fails."""

import asyncio
import random
from datetime import UTC, datetime

import asyncpg
import pytest
import redis
from harness.clicks import Counted, Sender, click, open_worker
from harness.proxy import Mode, Proxy
from harness.tables import Table
from harness.waiting import until_async

from shortcore.cache.keys import CacheKeys
from shortcore.clicks.rollups import DIMENSIONS, Kind, unique_visitors
from shortcore.clicks.wire import FIELD, Flag
from shortctl.embedded import EmbeddedValkey


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def keys(redis_prefix):
    return CacheKeys(redis_prefix)


@pytest.fixture
def sender(client, redis_prefix):
    return Sender(client, redis_prefix)


@pytest.fixture
async def counted(database_url):
    connection = await asyncpg.connect(database_url)
    yield Counted(connection)
    await connection.close()


@pytest.fixture
def opened(database_url, redis_url, redis_prefix):
    def opened(postgres_url=database_url, **settings):
        return open_worker(postgres_url, redis_url, redis_prefix, **settings)

    return opened


@pytest.fixture
async def worker(opened):
    async with opened() as worker:
        await worker.start()
        yield worker


async def wait_for(counted: Counted, sender: Sender) -> None:
    """Wait until all clicks are counted, and see that none is counted twice."""

    async def all_counted() -> bool:
        return await counted.total() >= sender.sent.total()

    await until_async(all_counted, f"{sender.sent.total()} clicks are counted")
    assert await counted.links() == sender.sent
    await counted.check_sums()


async def test_clicks_count_for_their_link_domain_owner_tags_and_all(worker, counted, sender):
    table = Table(counted.sql)
    await table.links(
        {"a": {"owner": 7, "tags": ["red", "blue"]}, "b": {"owner": 7, "tags": ["red"]}}
    )
    sender.send(
        [
            click(1, country="DE", referrer="example.org", visitor=b"visitor1"),
            click(1, country="FR", visitor=b"visitor2"),
            click(2, country="DE", flags=Flag.BOT),
        ]
    )
    await wait_for(counted, sender)
    everything = await counted.rollup(Kind.ALL, 0)
    assert (everything.clicks, everything.visits) == (3, 2)
    assert everything.breakdowns[0] == {"DE": [2, 1], "FR": [1, 1]}
    assert unique_visitors([everything.encode()[2]]) == 2
    assert (await counted.rollup(Kind.OWNER, 7)).clicks == 3
    domain = await counted.sql.fetchval("SELECT domain_id FROM links WHERE id = 1")
    assert (await counted.rollup(Kind.DOMAIN, domain)).clicks == 3
    tags = dict(await counted.sql.fetch("SELECT tag, id FROM stats_tags"))
    assert (await counted.rollup(Kind.TAG, tags["red"])).clicks == 3
    assert (await counted.rollup(Kind.TAG, tags["blue"])).clicks == 2
    assert worker.counts.clicks == 3
    assert worker.counts.lost == worker.counts.repeated == worker.counts.rejected == 0


async def test_a_bot_of_the_list_is_no_visit_even_if_the_redirector_does_not_know_it(
    worker, counted, sender
):
    sender.send([click(1, agent="Friendica/2024.12", visitor=b"visitor1"), click(1)])
    await wait_for(counted, sender)
    everything = await counted.rollup(Kind.ALL, 0)
    assert (everything.clicks, everything.visits) == (2, 1)
    assert everything.breakdowns[DIMENSIONS.index("bot")] == {"Friendica": [1, 0]}
    assert everything.visitors.estimate() == 0


async def test_a_click_of_an_unknown_link_counts_for_the_domain_that_was_requested(
    worker, counted, sender
):
    domain = await Table(counted.sql).domain("known.example")
    sender.send([click(5, host="known.example"), click(5, host="unknown.example")])
    await wait_for(counted, sender)
    assert (await counted.rollup(Kind.DOMAIN, domain)).clicks == 1
    assert (await counted.rollup(Kind.ALL, 0)).clicks == 2


async def test_a_repeated_batch_counts_once(worker, counted, sender):
    for _ in range(20):
        sender.send([click(random.randrange(8)) for _ in range(10)], copies=random.randint(1, 3))
    await wait_for(counted, sender)
    copies = await counted.sql.fetchval("SELECT sum(number) FROM click_sources")
    assert copies == sender.numbers.total()
    assert worker.counts.repeated > 0
    assert worker.counts.lost == 0


async def test_missing_numbers_count_as_lost_batches(worker, counted, sender, client, redis_prefix):
    sender.send([click(0)])
    await wait_for(counted, sender)  # so that the next ones are not of the first read
    sender.skip(0, 3)
    sender.send([click(0)])
    other = Sender(client, redis_prefix)
    other.skip(0, 2)
    other.send([click(0)])
    sender.sent.update(other.sent)
    await wait_for(counted, sender)
    assert worker.counts.lost == 5


async def test_batches_that_were_trimmed_before_the_first_worker_are_not_lost(
    opened, counted, sender, client, keys
):
    for _ in range(5):
        sender.send([click(0)])
    client.xtrim(keys.clicks(0), maxlen=2, approximate=False)
    sender.sent[0] = 2
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)
        assert worker.counts.lost == 0


async def test_entries_that_are_trimmed_before_they_are_counted_are_lost(
    opened, counted, sender, client, keys
):
    async with opened() as worker:
        await worker.start()
        sender.send([click(0)])
        await wait_for(counted, sender)
    for _ in range(5):
        sender.send([click(0)])
    client.xtrim(keys.clicks(0), maxlen=2, approximate=False)
    sender.sent[0] = 3
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)
        assert worker.counts.lost == 3


async def test_corrupt_entries_are_set_aside_and_others_count(
    worker, counted, sender, client, keys
):
    stream = keys.clicks(0)
    client.xadd(stream, {FIELD: b"\xff" * 100_000})
    sender.send([click(0)])
    client.xadd(stream, {"other": b"field"})
    client.xadd(stream, {FIELD: b""})
    sender.send([click(0), click(4)])
    client.xadd(stream, {FIELD: b"\x02\x93"})

    async def rejected() -> bool:
        return await counted.sql.fetchval("SELECT count(*) FROM clicks_rejected") == 4

    await until_async(rejected, "the corrupt entries are set aside")
    await wait_for(counted, sender)
    rows = await counted.sql.fetch("SELECT stream, reason, data FROM clicks_rejected ORDER BY id")
    assert {row["stream"] for row in rows} == {0}
    assert [len(row["data"]) for row in rows] == [65_536, 0, 0, 2]
    assert rows[1]["reason"] == "the entry has no batch"
    assert worker.counts.rejected == 4
    assert worker.counts.lost == 0


async def test_at_most_1000_corrupt_entries_are_kept(worker, counted, sender, client, keys):
    pipeline = client.pipeline(transaction=False)
    for number in range(1500):
        pipeline.xadd(keys.clicks(number % 2), {FIELD: b"corrupt %d" % number})
    pipeline.execute()
    sender.send([click(0), click(1)])
    await wait_for(counted, sender)

    async def all_seen() -> bool:
        return worker.counts.rejected == 1500

    await until_async(all_seen, "all are set aside")
    assert await counted.sql.fetchval("SELECT count(*) FROM clicks_rejected") <= 1000
    newest = await counted.sql.fetchval("SELECT data FROM clicks_rejected ORDER BY id DESC LIMIT 1")
    assert int(newest.split()[1]) > 1400


async def test_a_wrong_clock_counts_at_the_time_of_the_entry(worker, counted, sender):
    far = int(datetime(2600, 1, 1, tzinfo=UTC).timestamp() * 1000)
    sender.send([click(0, far), click(0, 0)])
    await wait_for(counted, sender)
    days = await counted.sql.fetch("SELECT DISTINCT day FROM clicks_daily WHERE kind = 1")
    today = datetime.now(UTC).date()
    assert all(abs((row["day"] - today).days) <= 1 for row in days)


async def test_an_entry_that_postgresql_refuses_is_set_aside_and_others_count(
    worker, counted, sender
):
    await counted.sql.execute("ALTER TABLE link_totals ADD CHECK (link_id <> 12)")
    for link_id in (0, 4, 8, 12, 16, 20, 24):
        sender.send([click(link_id)])
    del sender.sent[12]
    await wait_for(counted, sender)

    async def rejected() -> bool:
        return worker.counts.rejected == 1

    await until_async(rejected, "the entry is set aside")
    reason = await counted.sql.fetchval("SELECT reason FROM clicks_rejected")
    assert reason.startswith("PostgreSQL refuses it")
    sender.send([click(12 + 16)])
    await wait_for(counted, sender)


async def test_a_corrupt_stored_rollup_keeps_its_totals_and_counts_on(opened, counted, sender):
    async with opened() as worker:
        await worker.start()
        sender.send([click(0)])
        await wait_for(counted, sender)
    await counted.sql.execute("UPDATE clicks_daily SET series = 'x', visitors = 'y' WHERE kind = 1")
    async with opened() as worker:
        await worker.start()
        sender.send([click(0)])

        async def both() -> bool:
            return await counted.total() == 2

        await until_async(both, "the click is counted")
        assert worker.counts.rollups_replaced == 1
        assert (await counted.rollup(Kind.LINK, 0)).clicks == 2


async def test_two_workers_on_the_same_streams_count_each_click_once(opened, counted, sender):
    async with opened() as one, opened() as two:
        await one.start()
        await until_async(lambda: one.streams == 4, "the first one reads all streams")
        for stream in range(4):
            two._count(stream, 4)  # as if it had not noticed that its leases expired
        # The one that has to read the position again is usually late for the next commit, too.
        for round_ in range(3000):
            if round_ >= 100 and one.counts.overtaken + two.counts.overtaken > 0:
                break
            sender.send([click(random.randrange(40)) for _ in range(20)])
            await asyncio.sleep(0.01)
        await wait_for(counted, sender)
        assert one.counts.clicks + two.counts.clicks == sender.sent.total()
        assert one.counts.overtaken + two.counts.overtaken > 0


async def test_workers_share_the_streams_while_they_come_and_go(opened, counted, sender):
    async def send() -> None:
        while True:
            sender.send([click(random.randrange(100)) for _ in range(20)])
            await asyncio.sleep(0.005)

    sending = asyncio.create_task(send())
    async with opened() as one:
        await one.start()
        await until_async(lambda: one.streams == 4, "one reads all")
        async with opened() as two, opened() as three:
            await two.start()
            await three.start()
            await until_async(
                lambda: sorted((one.streams, two.streams, three.streams)) == [1, 1, 2],
                "the three share them",
            )
            await asyncio.sleep(0.3)
        await until_async(
            lambda: one.streams == 4, "one reads all again", 1.9
        )  # before a lease ends
        sending.cancel()
        await wait_for(counted, sender)
        total = sum(each.counts.clicks for each in (one, two, three))
        assert total == sender.sent.total()
        assert two.counts.clicks > 0
        assert three.counts.clicks > 0


async def test_a_worker_that_died_is_replaced_when_its_leases_expire(opened, counted, sender):
    await counted.sql.execute(
        "INSERT INTO click_workers VALUES ('died', clock_timestamp());"
        "INSERT INTO click_streams (stream, owner, lease_until) "
        "SELECT n, 'died', clock_timestamp() + interval '1 s' FROM generate_series(0, 3) n"
    )
    sender.send([click(number) for number in range(8)])
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)
        await until_async(lambda: worker.streams == 4, "it reads all streams")


async def test_a_worker_that_stops_writes_what_it_has_and_releases_its_streams(
    opened, counted, sender
):
    async with opened(worker_flush_ms=600_000) as worker:
        await worker.start()
        sender.send([click(number) for number in range(8)])
        await until_async(
            lambda: all(worker.counts.waiting_since_ms.get(n) for n in range(4)), "all are read"
        )
        assert await counted.total() == 0
        assert max(worker.counts.lag_s(2**42).values()) > 0
    await wait_for(counted, sender)
    owners = await counted.sql.fetch("SELECT owner FROM click_streams")
    assert [row["owner"] for row in owners] == [None] * 4
    assert await counted.sql.fetchval("SELECT count(*) FROM click_workers") == 0


async def test_a_position_that_was_reset_counts_nothing_twice(worker, counted, sender):
    for _ in range(10):
        sender.send([click(random.randrange(8)) for _ in range(10)])
        await wait_for(counted, sender)
        await counted.sql.execute("UPDATE click_streams SET position = '0-0'")
    sender.send([click(number) for number in range(8)])
    await wait_for(counted, sender)
    assert worker.counts.overtaken > 0
    assert worker.counts.repeated > 0
    assert worker.counts.lost == 0


async def test_a_commit_whose_answer_is_lost_counts_once(opened, database_url, counted, sender):
    with Proxy(database_url) as wire:
        async with opened(wire.url) as worker:
            await worker.start()
            for _ in range(5):
                wire.cut_answers_to(b"COMMIT;", times=4)
                for _ in range(20):
                    sender.send([click(random.randrange(40)) for _ in range(20)])
                await wait_for(counted, sender)
                await until_async(lambda: wire.cuts_left == 0, "the answers were cut")
            await wait_for(counted, sender)
            assert worker.stopping.errors["postgres"] >= 10


async def test_a_transaction_that_is_cut_counts_once(opened, database_url, counted, sender):
    with Proxy(database_url) as wire:
        async with opened(wire.url) as worker:
            await worker.start()
            for _ in range(5):
                wire.cut_answers_to(b"INSERT INTO clicks_daily", times=1)
                for _ in range(20):
                    sender.send([click(random.randrange(40)) for _ in range(20)])
                await wait_for(counted, sender)


async def test_a_stream_that_was_emptied_is_read_from_its_start(
    worker, counted, sender, client, keys
):
    # An entry with an id of the far future, as from a server with a wrong clock.
    sender.send([click(0)])
    await wait_for(counted, sender)
    client.xadd(keys.clicks(0), {"other": b"field"}, id=f"{2**42}-0")
    await until_async(lambda: worker.counts.rejected == 1, "the entry is set aside")
    client.delete(keys.clicks(0))
    sender.send([click(0)])
    await wait_for(counted, sender)


async def test_counted_entries_are_trimmed_and_the_group_shows_the_lag(
    opened, counted, sender, client, keys
):
    async with opened(worker_stream_retention_s=0) as worker:
        await worker.start()
        for _ in range(300):
            sender.send([click(0)])
        await wait_for(counted, sender)

        def group() -> dict[str, object]:
            [group] = client.xinfo_groups(keys.clicks(0))
            return group

        await until_async(lambda: group()["lag"] == 0, "the group has no lag")
        assert (
            group()["last-delivered-id"] == client.xinfo_stream(keys.clicks(0))["last-generated-id"]
        )
        sender.send([click(0)])
        await wait_for(counted, sender)
        await until_async(lambda: client.xlen(keys.clicks(0)) < 200, "the stream is trimmed")
        assert worker.counts.lag_s(2**42)[0] == 0


async def test_counted_entries_stay_for_the_retention(worker, counted, sender, client, keys):
    for _ in range(10):
        sender.send([click(0)])
        await wait_for(counted, sender)
    assert client.xlen(keys.clicks(0)) == 10


async def test_former_streams_are_still_counted(opened, counted, client, redis_prefix):
    sender = Sender(client, redis_prefix, partitions=8)
    await counted.sql.execute(
        "INSERT INTO click_streams (stream) SELECT n FROM generate_series(0, 7) n"
    )
    sender.send([click(number) for number in range(16)])
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)


async def test_old_marks_and_heartbeats_are_deleted(opened, counted):
    await counted.sql.execute(
        "INSERT INTO click_sources VALUES (0, 'old', 1, now() - interval '31 days'), "
        "(0, 'new', 1, now() - interval '29 days');"
        "INSERT INTO click_workers VALUES ('old', now() - interval '2 days')"
    )
    async with opened() as worker:
        await worker.start()

        async def deleted() -> bool:
            return [r[0] for r in await counted.sql.fetch("SELECT source FROM click_sources")] == [
                b"new"
            ]

        await until_async(deleted, "the old mark is deleted")


async def lag_of_the_group(client, keys) -> object:
    [group] = client.xinfo_groups(keys.clicks(0))
    return group["lag"]


async def test_the_group_shows_the_lag_while_no_worker_runs(opened, counted, sender, client, keys):
    """Else an autoscaler would not start the first worker."""
    for _ in range(2):
        async with opened() as worker:
            await worker.start()
            for _ in range(3):
                sender.send([click(0)])
            await wait_for(counted, sender)
        assert await lag_of_the_group(client, keys) == 0
        for waiting in range(1, 4):
            sender.send([click(0)])
            assert await lag_of_the_group(client, keys) == waiting


@pytest.mark.parametrize("known", ["nothing", "an older position", "a newer position"])
async def test_a_worker_that_starts_in_the_middle_of_a_stream_knows_its_lag(
    opened, counted, sender, client, keys, known
):
    async with opened() as worker:
        await worker.start()
        for _ in range(5):
            sender.send([click(0)])
        await wait_for(counted, sender)
    ids = [entry for entry, _ in client.xrange(keys.clicks(0))]
    if known == "nothing":
        client.xgroup_destroy(keys.clicks(0), "worker")
    elif known == "an older position":
        client.xgroup_setid(keys.clicks(0), "worker", ids[2], entries_read=3)
    sender.send([click(0)])
    sender.send([click(0)])
    if known == "a newer position":
        ids = [entry for entry, _ in client.xrange(keys.clicks(0))]
        client.xgroup_setid(keys.clicks(0), "worker", ids[5], entries_read=6)
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)
    sender.send([click(0)])
    assert await lag_of_the_group(client, keys) == 1


async def test_entries_that_were_trimmed_are_not_in_the_lag_for_ever(
    opened, counted, sender, client, keys
):
    sender.send([click(0)])
    async with opened() as worker:
        await worker.start()
        await wait_for(counted, sender)
    for _ in range(5):
        sender.send([click(0)])
    client.xtrim(keys.clicks(0), maxlen=2, approximate=False)
    async with opened() as worker:
        await worker.start()
        await until_async(lambda: worker.counts.lost == 3, "three batches are lost")
        await until_async(
            lambda: client.xinfo_groups(keys.clicks(0))[0]["lag"] == 0, "the group has no lag"
        )


async def test_clicks_that_postgresql_lost_in_a_failover_are_counted_again(
    opened, database_url, postgres_server, counted, sender
):
    name = database_url.rpartition("/")[2]
    await counted.sql.close()
    admin = await asyncpg.connect(postgres_server.url)
    with Proxy(database_url) as wire:
        async with opened(wire.url) as worker:
            await worker.start()
            for _ in range(3):
                sender.send([click(random.randrange(40)) for _ in range(20)])
            await _until_counted(database_url, sender)

            async def without_connections(*statements: str) -> None:
                wire.set(Mode.REFUSE)
                for statement in statements:
                    await admin.execute(statement)
                wire.set(Mode.PASS)

            await without_connections(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
                f"CREATE DATABASE {name}_old TEMPLATE {name}",
            )
            for _ in range(3):
                sender.send([click(random.randrange(40)) for _ in range(20)])
            await _until_counted(database_url, sender)
            await without_connections(
                f"DROP DATABASE {name} WITH (FORCE)",
                f"ALTER DATABASE {name}_old RENAME TO {name}",
            )
            sender.send([click(number) for number in range(40)])
            await _until_counted(database_url, sender)
            assert worker.counts.clicks > sender.sent.total()  # some were counted again
            assert worker.counts.lost == 0
    await admin.close()


async def _until_counted(database_url: str, sender: Sender) -> None:
    connection = await asyncpg.connect(database_url)
    await wait_for(Counted(connection), sender)
    await connection.close()


@pytest.mark.fault
async def test_another_redis_is_read_from_its_start(
    database_url, redis_prefix, server_folder, counted
):
    valkey = EmbeddedValkey(server_folder / "valkey")
    valkey.start()
    async with open_worker(database_url, valkey.url, redis_prefix) as worker:
        await worker.start()
        with redis.Redis.from_url(valkey.url) as client:
            sender = Sender(client, redis_prefix)
            # Ids of the far future: the entries of the next server are before this position.
            sender.send([click(number) for number in range(8)], at=2**42)
            await wait_for(counted, sender)
            valkey.kill()
            valkey.start()
            sender.skip(0)  # a batch that the first server had confirmed
            sender.send([click(number) for number in range(8)])
            await wait_for(counted, sender)
            assert worker.counts.lost == 1
    valkey.stop()


async def test_a_link_keeps_a_bounded_number_of_values_and_its_sums(opened, counted, sender):
    async with opened(stats_values_per_day=20) as worker:
        await worker.start()
        for number in range(10):
            some = [click(0, referrer=f"site{number * 10 + n}.example") for n in range(10)]
            sender.send([*some, *[click(0)] * 20])
            await wait_for(counted, sender)
        rollup = await counted.rollup(Kind.LINK, 0)
        referrers = rollup.breakdowns[2]
        assert len(referrers) <= 20
        assert sum(pair[0] for pair in referrers.values()) == 100
        assert rollup.clicks == 300
