"""All SQL that lists links (keyset pagination, filters, order) and tags."""

from dataclasses import dataclass
from datetime import datetime

from shortcore.storage.postgres import Connection
from writer.http.cursors import Cursor
from writer.links.repository import COLUMNS, stored
from writer.links.schemas import LinkStatus
from writer.links.stored import StoredLink

SORTS = {
    "created_at": ("created_at", "ASC", ">"),
    "-created_at": ("created_at", "DESC", "<"),
    "updated_at": ("updated_at", "ASC", ">"),
    "-updated_at": ("updated_at", "DESC", "<"),
}
"""The orders of a list: column, direction, and the operator for rows after a cursor."""

_KEPT = "l.deleted_at IS NULL"
_ENABLED = f"l.enabled AND {_KEPT}"
_NOT_EXPIRED = "(l.expires_at IS NULL OR l.expires_at > now())"
_NOT_EXHAUSTED = "(l.max_visits IS NULL OR l.visits < l.max_visits)"
_BEGUN = "(l.valid_from IS NULL OR l.valid_from <= now())"
# Each condition but the first is true for few links, which have a partial index (migration 0006).
# PostgreSQL uses the index only if the condition of the status implies that of the index.
STATUSES = {
    LinkStatus.ACTIVE: f"{_ENABLED} AND {_NOT_EXPIRED} AND {_NOT_EXHAUSTED} AND {_BEGUN}",
    LinkStatus.DISABLED: f"NOT l.enabled AND {_KEPT}",
    LinkStatus.DELETED: "l.deleted_at IS NOT NULL",
    LinkStatus.EXPIRED: f"{_ENABLED} AND l.expires_at <= now()",
    LinkStatus.EXHAUSTED: f"{_ENABLED} AND {_NOT_EXPIRED}"
    " AND l.max_visits IS NOT NULL AND l.visits >= l.max_visits",
    LinkStatus.SCHEDULED: f"{_ENABLED} AND {_NOT_EXPIRED} AND {_NOT_EXHAUSTED}"
    " AND l.valid_from > now()",
}
"""The SQL condition of each status; `schemas.status_of` has the same rules."""

_TAGS = """SELECT tag, count(*) FROM links AS l, unnest(l.tags) AS tag
WHERE l.tags <> '{}' AND l.deleted_at IS NULL GROUP BY tag ORDER BY tag LIMIT 10000"""


@dataclass(frozen=True, slots=True)
class Query:
    """Filters, order and cursor of a list; `limit` is the size of a page."""

    sort: str
    limit: int
    cursor: Cursor | None = None
    host: str | None = None
    tags: tuple[str, ...] = ()
    statuses: tuple[LinkStatus, ...] = ()
    text: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


async def list_links(connection: Connection, query: Query) -> list[StoredLink]:
    """Return up to `query.limit` + 1 links. The extra one shows that there is another page."""
    column, direction, after = SORTS[query.sort]
    arguments: list[object] = []

    def bind(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    conditions = [STATUSES[status] for status in query.statuses] or [_KEPT]
    where = [f"({' OR '.join(f'({condition})' for condition in conditions)})"]
    if query.host is not None:
        where.append(f"d.host = {bind(query.host)}")
    if query.tags:
        where.append(f"l.tags <> '{{}}' AND l.tags @> {bind(list(query.tags))}::text[]")
    if query.text is not None:
        pattern = bind(f"%{_escaped(query.text)}%")
        where.append(
            f"(l.target ILIKE {pattern} OR l.title ILIKE {pattern} OR l.code ILIKE {pattern})"
        )
    if query.created_after is not None:
        where.append(f"l.created_at > {bind(query.created_after)}")
    if query.created_before is not None:
        where.append(f"l.created_at < {bind(query.created_before)}")
    if query.cursor is not None:
        where.append(
            f"(l.{column}, l.id) {after} ({bind(query.cursor.at)}, {bind(query.cursor.id)})"
        )
    statement = (
        f"SELECT d.host, {COLUMNS} FROM links AS l JOIN domains AS d ON d.id = l.domain_id"  # noqa: S608  # every value is bound
        f" WHERE {' AND '.join(where)}"
        f" ORDER BY l.{column} {direction}, l.id {direction} LIMIT {bind(query.limit + 1)}"
    )
    return [stored(row, row["host"]) for row in await connection.fetch(statement, *arguments)]


async def count_tags(connection: Connection) -> list[tuple[str, int]]:
    """Return the tags of links that are not deleted, each with the number of its links."""
    return [(row[0], row[1]) for row in await connection.fetch(_TAGS)]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
