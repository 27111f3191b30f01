"""`shortctl migrate`: bring the database schema to what this version needs."""

import asyncpg

from shortcore.errors import ConfigurationError
from shortcore.storage.schema import REVISION, revision
from shortctl.admin.servers import PostgresUrl, run, settings
from shortctl.api.client import die, say


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
    except ConfigurationError as error:
        die(str(error))
    after = run(revision(url))
    if before > REVISION:
        say(f"schema: {before}, newer than what this version knows ({REVISION})")
    elif before == after:
        say(f"schema: {after} already")
    else:
        say(f"schema: {before} → {after}")
