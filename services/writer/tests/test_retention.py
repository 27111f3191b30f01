"""Partitions of statistics: created ahead, dropped when they are old, never in the way of a reader."""

import asyncio
import time
from datetime import date, timedelta

import asyncpg
import pytest
from harness.relays import Links

from shortcore.runtime.stopping import Stopping
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.postgres import open_postgres
from writer.worker import housekeeping, retention
from writer.worker.housekeeping import Housekeeping
from writer.worker.retention import delete_orphans, drop_oldest, ensure_partitions

TODAY = date(2026, 11, 30)
INSERT = "INSERT INTO clicks_daily VALUES (1, 1, $1, 0, 1, 1, '', '', '')"


@pytest.fixture
async def postgres(database_url):
    opened = await open_postgres(
        database_url,
        name="postgres",
        pool_size=8,
        statement_cache=10,
        timeout_ms=30_000,
        breaker=Breaker(failures=1000, open_s=0, clock=time.monotonic),
        application="test",
    )
    yield opened
    await opened.close()


@pytest.fixture
async def sql(postgres):
    async with postgres.connection() as connection:
        yield connection


@pytest.fixture
async def reader(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def partitions(sql):
    return [
        row["relname"]
        for row in await sql.fetch(
            "SELECT inhrelid::regclass::text AS relname FROM pg_inherits "
            "WHERE inhparent = 'clicks_daily'::regclass ORDER BY 1"
        )
    ]


def housekeeping_of(postgres, today=TODAY, **settings):
    given = {"redis_url": "redis://x", "postgres_url": "postgresql://x", **settings}
    return Housekeeping(postgres, Stopping(), WorkerSettings(**given), lambda: today)


async def test_partitions_of_all_months_in_the_range_are_created_once(sql):
    assert await ensure_partitions(sql, date(2026, 11, 30), date(2027, 1, 1)) == 3
    assert await ensure_partitions(sql, date(2026, 12, 1), date(2027, 2, 28)) == 1
    assert await partitions(sql) == [
        "clicks_daily_2026_11",
        "clicks_daily_2026_12",
        "clicks_daily_2027_01",
        "clicks_daily_2027_02",
    ]
    for day in (date(2026, 11, 1), date(2026, 12, 31), date(2027, 2, 28)):
        await sql.execute(INSERT, day)
    with pytest.raises(asyncpg.CheckViolationError):
        await sql.execute(INSERT, date(2027, 3, 1))
    with pytest.raises(asyncpg.UniqueViolationError):
        await sql.execute(INSERT, date(2027, 2, 28))


async def test_several_workers_may_create_partitions_at_once(postgres, sql):
    async def work():
        async with postgres.connection() as connection:
            return await ensure_partitions(connection, TODAY, TODAY + timedelta(days=300))

    assert sum(await asyncio.gather(*(work() for _ in range(6)))) == 11
    assert len(await partitions(sql)) == 11


async def test_partitions_are_created_while_statistics_are_read_and_written(sql, reader):
    await ensure_partitions(sql, TODAY, TODAY)
    async with reader.transaction():
        await reader.execute(INSERT, TODAY)
        await reader.fetchval("SELECT count(*) FROM clicks_daily")
        await asyncio.wait_for(ensure_partitions(sql, TODAY, TODAY + timedelta(days=40)), 10)


async def test_only_months_whose_every_day_is_too_old_are_dropped(sql):
    await ensure_partitions(sql, date(2026, 8, 1), TODAY)
    assert await drop_oldest(sql, 31, date(2026, 10, 2)) == "clicks_daily_2026_08"
    assert await drop_oldest(sql, 31, date(2026, 10, 2)) is None
    assert await drop_oldest(sql, 31, date(2026, 10, 31)) is None
    assert await drop_oldest(sql, 31, date(2026, 11, 1)) == "clicks_daily_2026_09"
    assert await drop_oldest(sql, 0, date(2036, 11, 1)) is None
    assert await partitions(sql) == ["clicks_daily_2026_10", "clicks_daily_2026_11"]


async def test_a_partition_with_another_name_is_an_operators_and_is_kept(sql):
    await sql.execute(
        "CREATE TABLE archive PARTITION OF clicks_daily FOR VALUES FROM ('2001-01-01') TO ('2020-01-01')"
    )
    assert await drop_oldest(sql, 31, TODAY) is None


async def test_a_drop_gives_way_to_a_long_reader_and_keeps_no_other_reader_waiting(
    postgres, sql, reader
):
    await ensure_partitions(sql, date(2020, 1, 1), date(2020, 1, 1))
    async with reader.transaction():
        await reader.fetchval("SELECT count(*) FROM clicks_daily")
        dropping = asyncio.create_task(drop_oldest(sql, 31, TODAY))
        async with postgres.connection() as another:
            while not await another.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                if dropping.done():
                    break
            await asyncio.wait_for(another.fetchval("SELECT count(*) FROM clicks_daily"), 20)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await dropping
    assert await drop_oldest(sql, 31, TODAY) == "clicks_daily_2020_01"


async def test_housekeeping_waits_for_readers_and_then_drops_all_old_partitions(
    postgres, sql, reader, monkeypatch
):
    monkeypatch.setattr(housekeeping, "DROP_PAUSE_S", 0.05)
    keeper = housekeeping_of(postgres)
    await ensure_partitions(sql, date(2023, 9, 1), TODAY)
    reading = reader.transaction()
    await reading.start()
    await reader.fetchval("SELECT count(*) FROM clicks_daily")
    dropping = asyncio.create_task(keeper.drop_partitions())
    await asyncio.sleep(0.5)
    assert not dropping.done()
    await reading.commit()
    assert await dropping == 3  # the last day of November 2023 was 1096 days ago
    assert keeper.partitions_dropped == 3
    assert (await partitions(sql))[0] == "clicks_daily_2023_12"


async def test_housekeeping_gives_up_a_drop_until_the_next_hour(postgres, sql, reader, monkeypatch):
    monkeypatch.setattr(housekeeping, "DROP_PAUSE_S", 0)
    monkeypatch.setattr(housekeeping, "DROP_ATTEMPTS", 2)
    await ensure_partitions(sql, date(2020, 1, 1), date(2020, 1, 1))
    async with reader.transaction():
        await reader.fetchval("SELECT count(*) FROM clicks_daily")
        assert await housekeeping_of(postgres).drop_partitions() == 0
    assert await partitions(sql) == ["clicks_daily_2020_01"]


async def test_the_partition_of_the_next_month_exists_before_it_begins(postgres, sql):
    keeper = housekeeping_of(postgres, today=date(2027, 1, 31))
    assert await keeper.create_partitions() == 3
    assert await partitions(sql) == [f"clicks_daily_2027_0{month}" for month in (1, 2, 3)]
    assert keeper.partitions_created == 3


async def test_a_retention_of_0_days_keeps_statistics_for_ever(postgres, sql):
    await ensure_partitions(sql, date(1990, 1, 1), date(1990, 1, 1))
    assert await housekeeping_of(postgres, stats_retention_days=0).drop_partitions() == 0


async def test_only_the_totals_of_purged_links_are_deleted(
    postgres, sql, links: Links, monkeypatch
):
    monkeypatch.setattr(retention, "ORPHANS_PER_STEP", 7)
    for code in "abcde":
        await links.put(code, "https://x.example/")
    await sql.execute("UPDATE links SET id = ascii(code)")
    ids = [row["id"] for row in await sql.fetch("SELECT id FROM links")]
    await sql.execute(
        "INSERT INTO link_totals SELECT id, 5, 3, now() - interval '25 hours' FROM unnest($1::bigint[]) AS id",
        ids,
    )
    await sql.execute(
        "INSERT INTO link_totals SELECT id, 5, 3, now() - interval '25 hours' FROM generate_series($1::bigint, $2) AS id",
        max(ids) + 1,
        max(ids) + 30,
    )
    keeper = housekeeping_of(postgres)
    assert await keeper.delete_orphans() == 30
    assert {row["link_id"] for row in await sql.fetch("SELECT link_id FROM link_totals")} == set(
        ids
    )
    assert await keeper.delete_orphans() == 0
    assert keeper.totals_deleted == 30


async def test_totals_that_a_worker_is_adding_to_are_not_waited_for(sql, reader):
    await sql.execute(
        "INSERT INTO link_totals VALUES (77, 1, 1, '2020-01-01'), (78, 1, 1, '2020-01-01'), (79, 1, 1, now())"
    )
    async with reader.transaction():
        await reader.execute("UPDATE link_totals SET clicks = 2 WHERE link_id = 77")
        assert await asyncio.wait_for(delete_orphans(sql, -1), 10) == (1, 79)


async def test_housekeeping_goes_on_where_it_stopped(postgres, sql, monkeypatch):
    monkeypatch.setattr(retention, "ORPHANS_PER_STEP", 3)
    monkeypatch.setattr(housekeeping, "ORPHAN_STEPS", 2)
    await sql.execute(
        "INSERT INTO link_totals SELECT id, 5, 3, now() - interval '25 hours' FROM generate_series(1, 10) AS id"
    )
    keeper = housekeeping_of(postgres)
    assert [await keeper.delete_orphans() for _ in range(3)] == [6, 4, 0]
