"""`shortctl migrate`: bring the database schema to what this version needs."""

import asyncpg

from shortcore.schema import REVISION
from shortctl.client import PostgresUrl, die, out, run, settings


def migrate(postgres_url: PostgresUrl = None) -> None:
    """Bring the database schema to what this version needs; does nothing when it is there."""
    # Alembic and SQLAlchemy take as long to import as all the rest; no other command needs them.
    from writer.migrations import upgrade  # noqa: PLC0415

    url = settings(postgres_url).postgres_url.get_secret_value()
    before = run(revision(url))
    try:
        upgrade(url)
    except (OSError, asyncpg.PostgresError) as error:
        die(f"PostgreSQL: {error}")
    after = run(revision(url))
    if before > REVISION:
        out.print(f"schema: {before}, newer than what this version knows ({REVISION})")
    elif before == after:
        out.print(f"schema: {after} already")
    else:
        out.print(f"schema: {before} → {after}")


async def revision(url: str) -> int:
    """Return the schema's revision, 0 for an empty database."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        found = await connection.fetchval("SELECT revision FROM schema_version")
    except asyncpg.UndefinedTableError:
        return 0
    finally:
        await connection.close()
    return int(found)
