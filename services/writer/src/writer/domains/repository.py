"""All SQL about domains."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from shortcore.postgres import Connection

_COLUMNS = """d.id, d.host, d.default_target, d.not_found_target, d.version,
    d.created_at, d.updated_at"""

# A row without a code tells the redirectors to read the domains anew.
_OUTBOX = """o AS (INSERT INTO outbox (domain_id, host, code, version)
    SELECT id, host, '', {version} FROM d)"""

_ALL = f"SELECT {_COLUMNS} FROM domains AS d ORDER BY host"  # noqa: S608  # constants only
_ONE = f"SELECT {_COLUMNS} FROM domains AS d WHERE host = $1"  # noqa: S608  # constants only
_ADD = f"""WITH d AS (
    INSERT INTO domains (host, default_target, not_found_target) VALUES ($1, $2, $3)
    ON CONFLICT (host) DO NOTHING RETURNING *
), {_OUTBOX.format(version="version")} SELECT {_COLUMNS} FROM d"""  # noqa: S608  # constants only
_SAVE = f"""WITH d AS (
    UPDATE domains SET default_target = $2, not_found_target = $3,
        version = nextval('link_versions'), updated_at = clock_timestamp()
    WHERE host = $1 RETURNING *
), {_OUTBOX.format(version="version")} SELECT {_COLUMNS} FROM d"""  # noqa: S608  # constants only
_REMOVE = f"""WITH d AS (DELETE FROM domains WHERE host = $1 RETURNING *),
{_OUTBOX.format(version="nextval('link_versions')")} SELECT count(*) FROM d"""  # noqa: S608  # constants only


@dataclass(frozen=True, slots=True)
class Domain:
    """A host of short links, and where its bare address and its unknown codes lead."""

    id: int
    host: str
    default_target: str | None
    not_found_target: str | None
    version: int
    created_at: datetime
    updated_at: datetime


async def all_domains(connection: Connection) -> list[Domain]:
    """Return every domain by host."""
    return [Domain(*row) for row in await connection.fetch(_ALL)]


async def locked_domain(connection: Connection, host: str) -> Domain | None:
    """Return one domain and keep others from changing it until the transaction ends."""
    return _domain(await connection.fetchrow(_ONE + " FOR UPDATE", host))


async def add_domain(
    connection: Connection, host: str, default_target: str | None, not_found_target: str | None
) -> Domain | None:
    """Add a domain; returns None when the host is there already."""
    return _domain(await connection.fetchrow(_ADD, host, default_target, not_found_target))


async def save_domain(
    connection: Connection, host: str, default_target: str | None, not_found_target: str | None
) -> Domain:
    """Write the targets of a locked domain."""
    row = await connection.fetchrow(_SAVE, host, default_target, not_found_target)
    return Domain(*row)  # type: ignore[misc]  # it is locked, so it is there


async def remove_domain(connection: Connection, host: str) -> bool:
    """Remove a domain; returns whether it was there.

    Raises asyncpg.ForeignKeyViolationError while it has links, in the trash or not.
    """
    return bool(await connection.fetchval(_REMOVE, host))


def _domain(row: asyncpg.Record | None) -> Domain | None:
    return None if row is None else Domain(*row)
