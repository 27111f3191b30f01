"""A start on a schema that does not fit: wait for a migration, refuse what needs newer code."""

import asyncio

import asyncpg
import pytest

from redirector.container import open_redirector
from shortcore.errors import ConfigurationError
from shortcore.settings.redirector import RedirectorSettings
from writer.migrations import upgrade


def settings(url: str) -> RedirectorSettings:
    return RedirectorSettings(
        postgres_url=url, redis_url="redis://127.0.0.1:1", code_secret="a secret for the tests"
    )


async def test_a_start_on_an_older_schema_waits_for_the_migration(blank_database_url):
    redirector = await open_redirector(settings(blank_database_url))
    starting = asyncio.create_task(redirector.start())
    try:
        done, _ = await asyncio.wait([starting], timeout=1.5)
        assert not done
        schema = next(each for each in redirector.health.dependencies() if each.name == "schema")
        assert not schema.ok
        assert "at revision 0" in schema.detail
        await asyncio.to_thread(upgrade, blank_database_url)
        await asyncio.wait_for(starting, 30)
    finally:
        starting.cancel()
        await redirector.close()


async def test_a_start_without_postgresql_does_not_wait():
    redirector = await open_redirector(settings("postgresql://127.0.0.1:1/none"))
    try:
        await asyncio.wait_for(redirector.start(), 30)
    finally:
        await redirector.close()


async def test_a_schema_that_needs_newer_code_refuses_the_start(database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE schema_version SET revision = 9, oldest_code = 9")
    await connection.close()
    redirector = await open_redirector(settings(database_url))
    try:
        with pytest.raises(ConfigurationError, match="install a newer version"):
            await redirector.start()
    finally:
        await redirector.close()
