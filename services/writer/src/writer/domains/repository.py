"""All SQL about domains."""

from dataclasses import astuple, dataclass
from datetime import datetime

import asyncpg

from shortcore.links.folded_codes import fold_code
from shortcore.storage.postgres import Connection

_COLUMNS = """d.id, d.host, d.default_target, d.not_found_target, d.case_insensitive, d.version,
    d.created_at, d.updated_at"""

# A row without a code makes the redirectors read the domains again.
_OUTBOX = """o AS (INSERT INTO outbox (domain_id, host, code, version)
    SELECT id, host, '', {version} FROM d)"""

_ALL = f"SELECT {_COLUMNS} FROM domains AS d ORDER BY host"  # noqa: S608  # constants only
_PAGE = f"SELECT {_COLUMNS} FROM domains AS d WHERE host > $1 ORDER BY host LIMIT $2"  # noqa: S608  # constants only
_ONE = f"SELECT {_COLUMNS} FROM domains AS d WHERE host = $1"  # noqa: S608  # constants only
_ADD = f"""WITH d AS (
    INSERT INTO domains (host, default_target, not_found_target, case_insensitive)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (host) DO NOTHING RETURNING *
), {_OUTBOX.format(version="version")} SELECT {_COLUMNS} FROM d"""  # noqa: S608  # constants only
_SAVE = f"""WITH d AS (
    UPDATE domains SET default_target = $2, not_found_target = $3, case_insensitive = $4,
        version = nextval('link_versions'), updated_at = clock_timestamp()
    WHERE host = $1 RETURNING *
), {_OUTBOX.format(version="version")} SELECT {_COLUMNS} FROM d"""  # noqa: S608  # constants only
_REMOVE = f"""WITH d AS (DELETE FROM domains WHERE host = $1 RETURNING *),
{_OUTBOX.format(version="nextval('link_versions')")} SELECT count(*) FROM d"""  # noqa: S608  # constants only

# Codes compare bytewise (COLLATE "C"), so that lower() changes A-Z and nothing else.
_CAPITAL = "SELECT code FROM links WHERE domain_id = $1 AND code <> lower(code) LIMIT 1"


@dataclass(frozen=True, slots=True)
class DomainValues:
    """The settable fields of a domain."""

    default_target: str | None = None
    not_found_target: str | None = None
    case_insensitive: bool = False


@dataclass(frozen=True, slots=True)
class Domain:
    """A host of short links, with the targets of its root and of unknown codes.

    The codes of a case-insensitive domain are stored in lower case; any spelling finds them.
    """

    id: int
    host: str
    default_target: str | None
    not_found_target: str | None
    case_insensitive: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def values(self) -> DomainValues:
        """The settable fields."""
        return DomainValues(self.default_target, self.not_found_target, self.case_insensitive)

    def spelled(self, code: str) -> str:
        """Return `code` as this domain stores it."""
        return fold_code(code) if self.case_insensitive else code


async def all_domains(connection: Connection) -> list[Domain]:
    """Return all domains, ordered by host."""
    return [Domain(*row) for row in await connection.fetch(_ALL)]


async def list_domains(connection: Connection, after: str, limit: int) -> list[Domain]:
    """Return the first `limit` domains after the host `after`, ordered by host."""
    return [Domain(*row) for row in await connection.fetch(_PAGE, after, limit)]


async def find_domain(connection: Connection, host: str) -> Domain | None:
    """Return one domain."""
    return _domain(await connection.fetchrow(_ONE, host))


async def locked_domain(connection: Connection, host: str) -> Domain | None:
    """Return one domain and lock it until the transaction ends."""
    return _domain(await connection.fetchrow(_ONE + " FOR UPDATE", host))


async def add_domain(connection: Connection, host: str, values: DomainValues) -> Domain | None:
    """Add a domain; returns None if the host exists already."""
    return _domain(await connection.fetchrow(_ADD, host, *astuple(values)))


async def find_capital(connection: Connection, domain_id: int) -> str | None:
    """Return a code of the domain with a capital letter, or None.

    While the domain is locked by `locked_domain`, no such code can be added.
    """
    code: str | None = await connection.fetchval(_CAPITAL, domain_id)
    return code


async def save_domain(connection: Connection, host: str, values: DomainValues) -> Domain:
    """Write the values of a locked domain."""
    row = await connection.fetchrow(_SAVE, host, *astuple(values))
    return Domain(*row)  # type: ignore[misc]  # the row is locked, so it exists


async def remove_domain(connection: Connection, host: str) -> bool:
    """Remove a domain; returns whether it existed.

    Raises asyncpg.ForeignKeyViolationError while it has links, in the trash or not.
    """
    return bool(await connection.fetchval(_REMOVE, host))


def _domain(row: asyncpg.Record | None) -> Domain | None:
    return None if row is None else Domain(*row)
