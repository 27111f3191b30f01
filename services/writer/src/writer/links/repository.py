"""All SQL that reads one link or changes links. The SQL of lists is in `listing`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import attrgetter

import asyncpg

from shortcore.links.event_rows import insert_events, wanted
from shortcore.links.folded_codes import fold_code
from shortcore.links.record import Kind, LinkRecord, Version, is_simple_target
from shortcore.links.row_mapping import RECORD_COLUMNS, record_of
from shortcore.storage.postgres import Connection
from writer.links.stored import LinkValues, NewLink, StoredLink
from writer.relay.outbox import BULK

COLUMNS = f"""{RECORD_COLUMNS}, l.domain_id, l.code, l.valid_from, l.expires_at, l.max_visits,
    l.visits, l.tags, l.note, l.created_at, l.updated_at, l.deleted_at,
    coalesce(t.clicks, 0) AS clicks, coalesce(t.visits, 0) AS counted_visits"""
"""What `stored` needs from `links AS l` with TOTALS."""

TOTALS = "LEFT JOIN link_totals AS t ON t.link_id = l.id"
"""A link has no row in link_totals before its first click is counted."""

_OUTBOX = "o AS (INSERT INTO outbox (domain_id, host, code, version) SELECT "

# In the queue of links created in bulk: no single change waits behind them.
_OUTBOX_BULK = f"""o AS (
    INSERT INTO outbox (id, domain_id, host, code, version) OVERRIDING SYSTEM VALUE
    SELECT {BULK} + l.version, """  # a constant

# Protects a purge and a concurrent insert of the same code. Without it, an insert could take its
# version, wait for the purge to commit, and then have a version below that of the purge's
# tombstone, which would hide the link. The sub-select takes the lock before nextval of the version.
_PURGE_FENCE = 7_236_002
_FENCED = f"(SELECT pg_advisory_xact_lock_shared({_PURGE_FENCE})) AS fence"  # a constant

# Rows are inserted in the order of domain and code. Otherwise two batches with the same codes in
# opposite order would deadlock.
# A writer's domain cache learns of a switch to case-insensitive codes some seconds later. The lock,
# which the foreign key takes anyway, waits for a switch and reads the domain as it is then.
_FOLDING = """f AS (
    SELECT array_agg(id) FILTER (WHERE case_insensitive) AS folding
    FROM (SELECT id, case_insensitive FROM domains
        WHERE id = ANY ({domains}::integer[]) FOR KEY SHARE) AS locked
)"""

_INSERTED = f"""
WITH {_FOLDING.format(domains="$2")}, l AS (
    INSERT INTO links AS l (id, domain_id, code, target, redirect_status, enabled, custom, valid_from,
        expires_at, expired_target, max_visits, password_hash, forward_query, forward_path, title,
        tags, note, created_at, updated_at)
    SELECT n.id, n.domain_id, n.code, n.target, n.redirect_status, n.enabled, n.custom, n.valid_from,
        n.expires_at, n.expired_target, n.max_visits, n.password_hash, n.forward_query,
        n.forward_path, n.title, string_to_array(n.tags, ','), n.note, n.at, n.at
    FROM {_FENCED}, (
        SELECT *, clock_timestamp() AS at
        FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::smallint[],
            $6::boolean[], $7::boolean[], $8::timestamptz[], $9::timestamptz[], $10::text[],
            $11::bigint[], $12::text[], $13::boolean[], $14::boolean[], $15::text[], $16::text[],
            $17::text[])
        AS n (id, domain_id, code, target, redirect_status, enabled, custom, valid_from, expires_at,
            expired_target, max_visits, password_hash, forward_query, forward_path, title, tags,
            note)
        ORDER BY n.domain_id, n.code COLLATE "C"
    ) AS n
    WHERE (SELECT folding FROM f) IS NULL OR n.domain_id <> ALL ((SELECT folding FROM f)::integer[])
        OR n.code = lower(n.code COLLATE "C")
    ON CONFLICT (domain_id, code) DO NOTHING
    RETURNING *
), """  # noqa: S608  # constants only

_HOSTS = "l JOIN unnest($1::bigint[], $18::text[]) AS h (id, host) USING (id)"

_CHANGED = f"""l.domain_id, h.host, l.code, l.version
    FROM {_HOSTS}),
e AS ({insert_events("'link.created'", "h.host", _HOSTS)})
SELECT l.id, l.version, l.created_at FROM l
"""  # noqa: S608  # constants only

_INSERT = _INSERTED + _OUTBOX + _CHANGED
_INSERT_BULK = _INSERTED + _OUTBOX_BULK + _CHANGED

# The lock comes first. All links with generated codes share one row of the outbox.
_STAMPS = f"""
WITH {_FOLDING.format(domains="$3")}, s AS (
    SELECT array_agg(nextval('link_versions')) AS versions, clock_timestamp() AS at
    FROM {_FENCED}, generate_series(1, $1)
), o AS (INSERT INTO outbox_many (changed_at, links) SELECT at, $2::integer FROM s WHERE $2 > 0)
SELECT versions, at, (SELECT folding FROM f), {wanted("'link.created'")} FROM s
"""  # noqa: S608  # constants only

_COPIED_EVENTS = insert_events(
    "'link.created'",
    "h.host",
    "links AS l JOIN unnest($1::bigint[], $2::text[]) AS h (id, host) USING (id)",
)

_FOLDING_NOW = "SELECT id FROM domains WHERE id = ANY ($1::integer[]) AND case_insensitive"

_OPTIONAL = {
    "redirect_status": 302, "enabled": True, "custom": False,
    "valid_from": None, "expires_at": None, "expired_target": None, "max_visits": None,
    "password_hash": None, "forward_query": False, "forward_path": False, "title": None,
    "tags": (), "note": None,
}  # fmt: skip
"""Columns that a COPY can leave out, with the defaults of the table."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

_ONE = f"""SELECT d.host, {COLUMNS}
FROM links AS l JOIN domains AS d ON d.id = l.domain_id {TOTALS}
WHERE d.host = $1
    AND l.code = CASE WHEN d.case_insensitive THEN lower($2::text COLLATE "C") ELSE $2 END"""  # noqa: S608  # constants only

_SAVED = "CASE WHEN $17 THEN 'link.deleted' ELSE 'link.updated' END"

_SAVE = f"""
WITH l AS (
    UPDATE links AS l SET target = $4, redirect_status = $5, enabled = $6, valid_from = $7,
        expires_at = $8, expired_target = $9, max_visits = $10, password_hash = $11,
        forward_query = $12, forward_path = $13, title = $14, tags = $15, note = $16,
        version = nextval('link_versions'), updated_at = clock_timestamp(),
        deleted_at = CASE WHEN $17 THEN clock_timestamp() END
    WHERE domain_id = $1 AND code = $2 RETURNING *
), {_OUTBOX} l.domain_id, $3, l.code, l.version FROM l),
e AS ({insert_events(_SAVED, "$3", "l")})
SELECT {COLUMNS} FROM l {TOTALS}
"""  # noqa: S608  # constants only

_PURGE = f"""
WITH l AS (DELETE FROM links WHERE domain_id = $1 AND code = $2 RETURNING id, domain_id, code),
t AS (DELETE FROM link_totals WHERE link_id IN (SELECT id FROM l)),
{_OUTBOX} domain_id, $3, code, nextval('link_versions') FROM l RETURNING *),
p AS (INSERT INTO purged (domain_id, host, code, version)
    SELECT domain_id, host, code, version FROM o)
SELECT version FROM o
"""  # noqa: S608  # constants only

_SAME = f"""SELECT {COLUMNS} FROM links AS l {TOTALS}
WHERE l.domain_id = $1 AND l.target = $2 AND l.enabled = $3 AND l.deleted_at IS NULL
    AND l.redirect_status = $4
    AND l.valid_from IS NOT DISTINCT FROM $5 AND l.expires_at IS NOT DISTINCT FROM $6
    AND l.expired_target IS NOT DISTINCT FROM $7 AND l.max_visits IS NOT DISTINCT FROM $8
    AND l.password_hash IS NULL AND l.forward_query = $9 AND l.forward_path = $10
    AND l.title IS NOT DISTINCT FROM $11 AND l.tags = $12 AND l.note IS NOT DISTINCT FROM $13
    AND ($14::text IS NULL OR l.code = $14)
    AND (l.expires_at IS NULL OR l.expires_at > now())
    AND (l.max_visits IS NULL OR l.visits = 0)
ORDER BY l.created_at, l.id LIMIT 1"""  # noqa: S608  # constants only


class CapitalsRefused(Exception):
    """A code has capital letters, and its domain has become case-insensitive since."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of one COPY: `links` in the order of the request, other fields in COPY order."""

    links: Sequence[NewLink]
    _ordered: Sequence[NewLink]
    _versions: Sequence[int]
    _at: datetime

    def stored(self) -> list[StoredLink]:
        """Return the created links. Most imports never need them."""
        made = {
            link.id: _made(link, version, self._at)
            for link, version in zip(self._ordered, self._versions, strict=True)
        }
        return [made[link.id] for link in self.links]


async def insert_links(
    connection: Connection, links: Sequence[NewLink], *, bulk: bool = False
) -> dict[int, StoredLink]:
    """Insert `links`, their outbox rows and their events in one statement; returns those inserted, by id.

    With `bulk`, no single change waits behind them in the outbox.
    A link is missing if its code is in use, or if its code has capital letters and its domain has
    become case-insensitive (`find_folding`). Raises asyncpg.ForeignKeyViolationError, having
    inserted nothing, if a domain was removed.
    """
    column = [[*map(attrgetter(name), links)] for name in ("id", "domain_id", "code")]
    values = [link.values for link in links]
    rows = await connection.fetch(
        _INSERT_BULK if bulk else _INSERT,
        *column,
        [each.target for each in values],
        [each.redirect_status for each in values],
        [each.enabled for each in values],
        [link.custom for link in links],
        [each.valid_from for each in values],
        [each.expires_at for each in values],
        [each.expired_target for each in values],
        [each.max_visits for each in values],
        [each.password_hash for each in values],
        [each.forward_query for each in values],
        [each.forward_path for each in values],
        [each.title for each in values],
        [",".join(each.tags) for each in values],  # a tag cannot contain a comma
        [each.note for each in values],
        [link.host for link in links],
    )
    news = {link.id: link for link in links}
    return {id_: _made(news[id_], version, at) for id_, version, at in rows}


async def copy_links(connection: Connection, links: Sequence[NewLink]) -> Copied:
    """Insert many links with their outbox rows by COPY, and their events, in the caller's transaction.

    All links with generated codes share one outbox row. Each custom code has its own row: a
    visitor may have requested it before, and every release of the relay must deliver it to the
    redirectors (docs/adr/0013).

    Inserts all links or none. Raises asyncpg.UniqueViolationError if a code is in use,
    CapitalsRefused if a code has capital letters and its domain has become case-insensitive, and
    asyncpg.ForeignKeyViolationError if a domain was removed.
    """
    # In the order of the index, so that consecutive rows share its pages.
    ordered = sorted(links, key=attrgetter("domain_id", "code"))
    custom = [link.custom for link in ordered]
    domains = sorted({link.domain_id for link in ordered})
    ((versions, at, folding, events),) = await connection.fetch(
        _STAMPS, len(ordered), custom.count(False), domains
    )
    if folding and any(
        link.domain_id in folding and link.code != fold_code(link.code) for link in ordered
    ):
        raise CapitalsRefused
    values = [link.values for link in ordered]
    columns: dict[str, Iterable[object]] = {
        **{name: map(attrgetter(name), ordered) for name in ("id", "domain_id", "code")},
        "target": map(attrgetter("target"), values),
        "version": versions,
        "created_at": repeat(at, len(ordered)),
        "updated_at": repeat(at, len(ordered)),
    }
    for name, default in _OPTIONAL.items():
        column: list[object] = [*map(attrgetter(name), ordered if name == "custom" else values)]
        if column.count(default) < len(column):  # otherwise the default of the table applies
            columns[name] = column
    await connection.copy_records_to_table(
        "links", columns=[*columns], records=zip(*columns.values(), strict=True)
    )
    if True in custom:
        await connection.copy_records_to_table(
            "outbox",
            columns=("id", "domain_id", "host", "code", "version"),
            records=[
                (BULK + version, link.domain_id, link.host, link.code, version)
                for link, version in zip(ordered, versions, strict=True)
                if link.custom
            ],
        )
    if events:
        await connection.execute(
            _COPIED_EVENTS, [link.id for link in ordered], [link.host for link in ordered]
        )
    return Copied(links, ordered, versions, at)


async def find_folding(connection: Connection, domains: Iterable[int]) -> frozenset[int]:
    """Return the domains among `domains` that are case-insensitive now."""
    return frozenset(row[0] for row in await connection.fetch(_FOLDING_NOW, [*domains]))


async def find_link(
    connection: Connection, host: str, code: str, *, lock: bool = False
) -> StoredLink | None:
    """Return one link, deleted or not; `lock` locks its row until the transaction ends."""
    row = await connection.fetchrow(_ONE + " FOR UPDATE OF l" if lock else _ONE, host, code)
    return None if row is None else stored(row, row["host"])


async def save_link(
    connection: Connection, link: StoredLink, values: LinkValues, *, deleted: bool = False
) -> StoredLink:
    """Write `values` to a locked link as its newest version, with an outbox row and an event.

    With `deleted`, the link is moved to the trash, otherwise it is restored if it was there.
    """
    row = await connection.fetchrow(
        _SAVE, link.domain_id, link.code, link.host, *_columns(values), deleted
    )
    return stored(row, link.host)  # type: ignore[arg-type]  # the row is locked, so it exists


async def fence_purge(connection: Connection) -> None:
    """Wait until no insert is running, and block inserts until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _PURGE_FENCE)


async def purge_link(connection: Connection, link: StoredLink) -> Version:
    """Delete the row of a locked link; returns the version of its tombstone.

    The transaction must have called `fence_purge` first.
    """
    version = await connection.fetchval(_PURGE, link.domain_id, link.code, link.host)
    return Version(version)


async def find_same(
    connection: Connection, domain_id: int, host: str, code: str | None, values: LinkValues
) -> StoredLink | None:
    """Return the oldest link that is equal to a link with `values`, or None.

    Locks the target until the transaction ends, so that of two equal requests one creates the link
    and the other finds it.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", values.target, domain_id
    )
    target, redirect_status, enabled, *rest = _columns(values)
    del rest[4]  # a link with a password is never the same: only its hash is known
    row = await connection.fetchrow(_SAME, domain_id, target, enabled, redirect_status, *rest, code)
    return None if row is None else stored(row, host)


def stored(row: asyncpg.Record, host: str) -> StoredLink:
    """Return the link of a row with the columns COLUMNS."""
    values = LinkValues(
        target=row["target"],
        redirect_status=row["redirect_status"],
        enabled=row["enabled"],
        valid_from=row["valid_from"],
        expires_at=row["expires_at"],
        expired_target=row["expired_target"],
        max_visits=row["max_visits"],
        password_hash=row["password_hash"],
        forward_query=row["forward_query"],
        forward_path=row["forward_path"],
        title=row["title"],
        tags=tuple(row["tags"]),
        note=row["note"],
    )
    return StoredLink(
        host=host,
        code=row["code"],
        domain_id=row["domain_id"],
        values=values,
        visits=row["visits"],
        clicks=row["clicks"],
        counted_visits=row["counted_visits"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
        record=record_of(row),
    )


def _made(new: NewLink, version: int, at: datetime) -> StoredLink:
    """Return the link that was inserted from `new`, without reading its row."""
    values = new.values
    record = LinkRecord(
        version=version,
        kind=Kind.ACTIVE if values.enabled else Kind.DISABLED,
        link_id=new.id,
        target=values.target,
        redirect_status=values.redirect_status,
        valid_from_ms=_ms(values.valid_from),
        expires_at_ms=_ms(values.expires_at),
        expired_target=values.expired_target,
        limited=values.max_visits is not None,
        password_hash=values.password_hash,
        forward_query=values.forward_query,
        forward_path=values.forward_path,
        title=values.title,
        created_at_ms=((at - _EPOCH) // _US + 500) // 1000,  # rounded as RECORD_COLUMNS rounds it
        simple_target=is_simple_target(values.target),
    )
    return StoredLink(
        host=new.host,
        code=new.code,
        domain_id=new.domain_id,
        values=values,
        visits=0,
        clicks=0,
        counted_visits=0,
        created_at=at,
        updated_at=at,
        deleted_at=None,
        record=record,
    )


def _ms(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - _EPOCH) // _US // 1000


def _columns(values: LinkValues) -> tuple[object, ...]:
    return (
        values.target,
        values.redirect_status,
        values.enabled,
        values.valid_from,
        values.expires_at,
        values.expired_target,
        values.max_visits,
        values.password_hash,
        values.forward_query,
        values.forward_path,
        values.title,
        list(values.tags),
        values.note,
    )
