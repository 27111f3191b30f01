"""Rows of domains and links that no relay announces. Only this module inserts them in tests.

`Table` works in the test's event loop. `add_domain` and `add_links` are for fixtures without one.
Tests of the relay need outbox rows, too: see `harness.relays.Links`.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from harness.databases import in_thread

HOST = "go.example"
"""The default domain of services in the test's process; that of real processes is localhost."""

TARGET = "https://target.example/"
Row = Mapping[str, Any]


@dataclass
class Table:
    """Writes rows on a connection of its own.

    Columns are given by name. `deleted=True` stands for the time of a deletion.
    """

    connection: "asyncpg.Connection[asyncpg.Record]"
    host: str = HOST

    async def domain(self, host: str | None = None, **columns: Any) -> int:
        """Insert a domain; returns its id."""
        names = {"host": host or self.host} | columns
        return int(await self.connection.fetchval(_insert("domains", names, "id"), *names.values()))

    async def link(
        self, code: str, target: str = TARGET, *, host: str | None = None, **columns: Any
    ) -> int:
        """Insert a link, and its domain if it is new; returns the link's version."""
        row = _row(await self._domain_id(host), code, {"target": target} | columns)
        return int(await self.connection.fetchval(_insert("links", row, "version"), *row.values()))

    async def links(self, links: Mapping[str, Row], *, host: str | None = None) -> None:
        """Insert links by code, fast enough for thousands; the n-th one has the id n."""
        domain_id = await self._domain_id(host)
        rows = [
            _row(domain_id, code, {"id": number} | columns)
            for number, (code, columns) in enumerate(links.items(), 1)
        ]
        for _, alike in itertools.groupby(rows, key=tuple):
            some = [*alike]
            statement = _insert("links", some[0], "version")
            await self.connection.executemany(statement, [[*row.values()] for row in some])

    async def edit(self, code: str, **columns: Any) -> int:
        """Change a link; returns its new version."""
        changes = _stored(columns)
        return int(
            await self.connection.fetchval(
                f"UPDATE links SET {_assign(changes)}, version = nextval('link_versions')"
                " WHERE code = $1 RETURNING version",
                code,
                *changes.values(),
            )
        )

    async def rewrite(self, code: str, **columns: Any) -> None:
        """Change a link without a new version, as only a restore of the database does."""
        changes = _stored(columns)
        await self.connection.execute(
            f"UPDATE links SET {_assign(changes)} WHERE code = $1", code, *changes.values()
        )

    async def remove(self, code: str) -> None:
        """Delete the row of a link, without a tombstone."""
        await self.connection.execute("DELETE FROM links WHERE code = $1", code)

    async def edit_domain(self, host: str | None = None, **columns: Any) -> None:
        """Change a domain."""
        await self.connection.execute(
            f"UPDATE domains SET {_assign(columns)} WHERE host = $1",
            host or self.host,
            *columns.values(),
        )

    async def remove_domain(self, host: str) -> None:
        """Delete a domain that has no links."""
        await self.connection.execute("DELETE FROM domains WHERE host = $1", host)

    async def visits(self, code: str) -> int:
        """Return how many visits of a visit-limited link were counted."""
        return int(await self.connection.fetchval("SELECT visits FROM links WHERE code = $1", code))

    async def _domain_id(self, host: str | None) -> int:
        host = host or self.host
        known = await self.connection.fetchval("SELECT id FROM domains WHERE host = $1", host)
        return await self.domain(host) if known is None else int(known)


@contextlib.asynccontextmanager
async def open_table(url: str, host: str = HOST) -> AsyncIterator[Table]:
    """Give a `Table` whose links are of `host`."""
    connection = await asyncpg.connect(url)
    try:
        yield Table(connection, host)
    finally:
        await connection.close()


def add_domain(url: str, host: str, **columns: Any) -> None:
    """Insert a domain, from code without an event loop."""
    _run(url, host, lambda table: table.domain(**columns))


def add_links(url: str, links: Mapping[str, Row], *, host: str = "localhost") -> None:
    """Insert links by code, and their domain if it is new, from code without an event loop."""
    _run(url, host, lambda table: table.links(links))


def edit_link(url: str, code: str, **columns: Any) -> None:
    """Change a link, from code without an event loop."""
    _run(url, HOST, lambda table: table.edit(code, **columns))


def _run(url: str, host: str, work: Callable[[Table], Awaitable[object]]) -> None:
    async def run() -> None:
        async with open_table(url, host) as table:
            await work(table)

    in_thread(lambda: asyncio.run(run()))


def _row(domain_id: int, code: str, columns: Row) -> Row:
    return _stored({"id": 1, "domain_id": domain_id, "code": code, "target": TARGET, **columns})


def _stored(columns: Row) -> Row:
    """Return the columns of the table, with the column that `deleted` stands for."""
    stored = dict(columns)
    if stored.pop("deleted", False):
        stored["deleted_at"] = datetime.now(UTC)
    return stored


def _insert(table: str, columns: Row, returning: str) -> str:
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING {returning}"


def _assign(columns: Row) -> str:
    return ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, 2))
