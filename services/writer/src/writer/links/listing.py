"""All SQL that lists links (keyset pagination, filters, order) and tags."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from shortcore.links.status import LinkStatus
from shortcore.storage.postgres import Connection
from writer.http.cursors import Cursor
from writer.links.repository import COLUMNS, TOTALS, stored
from writer.links.stored import StoredLink


@dataclass(frozen=True, slots=True)
class Part:
    """Links that one index has in the order of a list, and what a cursor among them means."""

    columns: tuple[str, ...]
    key: Callable[[Cursor], tuple[object, ...]]
    """The values of `columns` at a cursor."""

    condition: str = "true"
    has: Callable[[Cursor], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of a list: its parts one after another, and the value of a link for the cursor."""

    parts: tuple[Part, ...]
    value: Callable[[StoredLink], datetime | int]
    descending: bool


def _by_time(name: str, *, descending: bool) -> Sort:
    part = Part((f"l.{name}", "l.id"), lambda cursor: (cursor.at, cursor.id))
    return Sort((part,), attrgetter(name), descending)


# Most links without visits have no row in link_totals, so no index has all links in this order.
_VISITED = Part(
    ("t.visits", "t.link_id"),
    lambda cursor: (cursor.number, cursor.id),
    "t.visits > 0",
    lambda cursor: cursor.number > 0,
)
_UNVISITED = Part(
    ("l.id",),
    lambda cursor: (cursor.id,),
    "(t.visits IS NULL OR t.visits = 0)",
    lambda cursor: cursor.number == 0,
)

SORTS = {
    "created_at": _by_time("created_at", descending=False),
    "-created_at": _by_time("created_at", descending=True),
    "updated_at": _by_time("updated_at", descending=False),
    "-updated_at": _by_time("updated_at", descending=True),
    "visits": Sort((_UNVISITED, _VISITED), attrgetter("counted_visits"), descending=False),
    "-visits": Sort((_VISITED, _UNVISITED), attrgetter("counted_visits"), descending=True),
}
"""The orders of a list. Links with the same value are in the order of their ids."""

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
"""The SQL condition of each status; `shortcore.links.status` has the same rules."""

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
    min_visits: int = 0


async def list_links(connection: Connection, query: Query) -> list[StoredLink]:
    """Return up to `query.limit` + 1 links. The extra one shows that there is another page."""
    sort = SORTS[query.sort]
    parts = [*sort.parts]
    cursor = query.cursor
    while cursor is not None and not parts[0].has(cursor):
        del parts[0]
    found: list[StoredLink] = []
    for part in parts:
        left = query.limit + 1 - len(found)
        if left > 0 and not (part is _UNVISITED and query.min_visits):
            found += await _list_part(
                connection, query, part, cursor, left, descending=sort.descending
            )
        cursor = None  # it is in the first part
    return found


async def _list_part(
    connection: Connection,
    query: Query,
    part: Part,
    cursor: Cursor | None,
    limit: int,
    *,
    descending: bool,
) -> list[StoredLink]:
    arguments: list[object] = []

    def bind(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    conditions = [STATUSES[status] for status in query.statuses] or [_KEPT]
    where = [f"({' OR '.join(f'({condition})' for condition in conditions)})", part.condition]
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
    if query.min_visits > 0:
        where.append(f"t.visits >= {bind(query.min_visits)}")
    if cursor is not None:
        key = ", ".join(map(bind, part.key(cursor)))
        where.append(f"({', '.join(part.columns)}) {'<' if descending else '>'} ({key})")
    order = ", ".join(f"{column} {'DESC' if descending else 'ASC'}" for column in part.columns)
    statement = (
        f"SELECT d.host, {COLUMNS} FROM links AS l JOIN domains AS d ON d.id = l.domain_id {TOTALS}"  # noqa: S608  # every value is bound
        f" WHERE {' AND '.join(where)}"
        f" ORDER BY {order} LIMIT {bind(limit)}"
    )
    return [stored(row, row["host"]) for row in await connection.fetch(statement, *arguments)]


async def count_tags(connection: Connection) -> list[tuple[str, int]]:
    """Return the tags of links that are not deleted, each with the number of its links."""
    return [(row[0], row[1]) for row in await connection.fetch(_TAGS)]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
