"""The command `shortctl migrate`: upgrades the database schema to this version."""

import asyncpg

from shortcore.errors import ConfigurationError
from shortcore.storage.schema import REVISION, revision
from shortctl.admin.servers import PostgresUrl, run, settings
from shortctl.terminal import fail, print_result


def migrate(postgres_url: PostgresUrl = None) -> None:
    """Upgrade the database schema to the version that the services need.

    Does nothing if the schema is up to date.
    """
    # Only this command needs Alembic and SQLAlchemy, and their import is half of its time.
    from writer.migrations import upgrade  # noqa: PLC0415

    url = settings(postgres_url).postgres_url.get_secret_value()
    before = run(revision(url))
    try:
        upgrade(url)
    except (OSError, asyncpg.PostgresError) as error:
        fail(f"PostgreSQL: {error}")
    except ConfigurationError as error:
        fail(str(error))
    after = run(revision(url))
    if before > REVISION:
        print_result(f"schema: {before}, newer than this version of shortctl ({REVISION})")
    elif before == after:
        print_result(f"schema: already {after}")
    else:
        print_result(f"schema: {before} → {after}")
