"""What migrations make of links that are there already."""

import asyncio

import asyncpg
import pytest
from harness.databases import in_thread

from shortcore.storage.schema import REVISION
from writer.migrations import upgrade

BEFORE_ENABLED = "0005"


@pytest.fixture
async def old(blank_database_url):
    """A connection to a database whose links still have a `state`."""
    in_thread(lambda: upgrade(blank_database_url, BEFORE_ENABLED))
    connection = await asyncpg.connect(blank_database_url)
    await connection.execute("INSERT INTO domains (host) VALUES ('go.test')")
    await connection.execute(
        "INSERT INTO links (id, domain_id, code, target, state, deleted_at) VALUES"
        " (1, 1, 'on', 'https://example.com/', 'active', NULL),"
        " (2, 1, 'off', 'https://example.com/', 'disabled', NULL),"
        " (3, 1, 'gone', 'https://example.com/', 'deleted', '2026-01-02T00:00:00Z'),"
        " (4, 1, 'gone-untimed', 'https://example.com/', 'deleted', NULL)"
    )
    yield connection
    await connection.close()


async def check_converted(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT code, enabled, deleted_at IS NOT NULL AS deleted FROM links ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        ("on", True, False), ("off", False, False), ("gone", True, True),
        ("gone-untimed", True, True),
    ]  # fmt: skip
    kept = await connection.fetchval("SELECT deleted_at FROM links WHERE code = 'gone'")
    assert kept.isoformat() == "2026-01-02T00:00:00+00:00"
    valid = await connection.fetchval(
        "SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'links'::regclass"
    )
    assert valid
    assert await connection.fetchval("SELECT revision FROM schema_version") == REVISION


async def test_a_link_is_enabled_or_deleted_as_its_state_said(old, blank_database_url):
    await asyncio.to_thread(upgrade, blank_database_url)
    await check_converted(old)


async def test_a_migration_that_broke_off_is_run_again(old, blank_database_url):
    await old.execute("ALTER TABLE links ADD COLUMN enabled boolean NOT NULL DEFAULT true")
    await old.execute("CREATE INDEX links_off ON links (id)")
    await asyncio.to_thread(upgrade, blank_database_url)
    await check_converted(old)


async def test_of_several_migrators_one_works_and_the_others_wait(old, blank_database_url):
    await asyncio.gather(*(asyncio.to_thread(upgrade, blank_database_url) for _ in range(3)))
    await check_converted(old)


async def test_the_conversion_waits_for_a_transaction_and_lets_others_write(
    old, blank_database_url
):
    """CREATE INDEX CONCURRENTLY waits; meanwhile no lock of it is in anybody's way."""
    other = await asyncpg.connect(blank_database_url)
    reading = other.transaction(isolation="repeatable_read")
    await reading.start()
    await other.fetchval("SELECT count(*) FROM domains")
    migrating = asyncio.create_task(asyncio.to_thread(upgrade, blank_database_url))

    async def waits() -> bool:
        return bool(
            await old.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = current_database()"
            )
        )

    async with asyncio.timeout(30):
        while not await waits():  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.05)
    await old.execute(
        "UPDATE links SET state = 'disabled', updated_at = clock_timestamp() WHERE code = 'on'",
        timeout=10,
    )
    await reading.commit()
    await migrating
    await other.close()
    assert await old.fetchval("SELECT enabled FROM links WHERE code = 'on'") is False
