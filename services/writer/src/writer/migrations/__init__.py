"""The database schema: Alembic migrations written as SQL.

Each migration is safe while the version before it still runs (expand, then contract one release
later) and records in `schema_version` which code may run on it.
"""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shortcore.errors import SchemaOlder
from shortcore.storage.schema import check_schema

_LOCK = 7_236_001
"""Advisory lock: of several migrations that start together, one runs and the others wait."""

_LOCK_POLL_S = 0.1

_LOCK_TIMEOUT = "5s"
"""Timeout of the wait for a table lock, so that a migration does not block live traffic."""


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the schema at `url` to `revision`; does nothing if it has that or a later revision.

    Raises ConfigurationError if the schema needs newer code, and asyncpg's errors if PostgreSQL is
    unavailable or refuses.
    """
    asyncio.run(_upgrade(url, revision))


async def _upgrade(url: str, revision: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    lock = await asyncpg.connect(url)
    try:
        # Not pg_advisory_lock: CREATE INDEX CONCURRENTLY waits for every query that runs, and so
        # for one that waits for this lock.
        while not await lock.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(_LOCK_POLL_S)
        # After a rollback, the schema has a newer revision than the code, which Alembic does not
        # find in its files. This is not an error as long as the schema permits this code.
        try:
            await check_schema(lock)
        except SchemaOlder:
            pass
        else:
            return
        async with engine.connect() as connection:
            await connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            await connection.commit()  # a migration may end Alembic's transaction, but not this one
            config.attributes["connection"] = connection
            await connection.run_sync(lambda sync: _run(config, sync, revision))
    finally:
        await lock.close()
        await engine.dispose()


def _run(config: Config, connection: object, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
