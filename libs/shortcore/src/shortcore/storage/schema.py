"""Checks whether this code can run on the database schema.

Migrations expand first and contract one release later. So the code of a release runs on its own schema
and on newer ones, until a migration raises the minimum revision (`oldest_code`).
"""

import asyncpg

from shortcore.errors import ConfigurationError, SchemaOlder
from shortcore.storage.postgres import Connection

REVISION = 8
"""The newest migration that this code knows and needs."""


ID_BLOCK = 100
"""Number of ids in a block: the INCREMENT of the sequence `link_ids`."""


async def check_schema(connection: "Connection | asyncpg.Connection[asyncpg.Record]") -> None:
    """Raise ConfigurationError, with the command to run, unless this code can run on the schema.

    It is SchemaOlder if a migration is missing.
    """
    try:
        row = await connection.fetchrow("SELECT revision, oldest_code FROM schema_version")
    except asyncpg.UndefinedTableError:
        row = None
    have = row["revision"] if row else 0
    if have < REVISION:
        raise SchemaOlder(
            f"The database schema is at revision {have}, but this version needs {REVISION}: "
            "run `shortctl migrate`."
        )
    if row is not None and row["oldest_code"] > REVISION:
        raise ConfigurationError(
            f"The database schema is at revision {have}, which needs code for revision "
            f"{row['oldest_code']} or newer; this version knows {REVISION}: "
            "install a newer version of Shortlinks."
        )


async def revision(url: str) -> int:
    """Return the revision of the schema at `url`, 0 for an empty database.

    Raises asyncpg's errors if the server is down or refuses.
    """
    connection = await asyncpg.connect(url, timeout=5)
    try:
        found = await connection.fetchval("SELECT revision FROM schema_version")
    except asyncpg.UndefinedTableError:
        return 0
    finally:
        await connection.close()
    return int(found)
