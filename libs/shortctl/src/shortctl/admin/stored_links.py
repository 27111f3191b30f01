"""Reads links from PostgreSQL as the records that Redis should hold."""

from collections.abc import AsyncIterator, Iterable, Sequence

from shortcore.links.record import LinkKey, LinkRecord, link_key, split_key
from shortcore.links.row_mapping import RECORD_COLUMNS, Row, record_of
from shortcore.storage.postgres import Postgres

BATCH = 500

_SELECT = f"""SELECT d.host, l.domain_id, l.code, {RECORD_COLUMNS}
FROM links l JOIN domains d ON d.id = l.domain_id"""  # noqa: S608  # a constant, no input
_AFTER = f"{_SELECT} WHERE (l.domain_id, l.code) > ($1, $2) ORDER BY l.domain_id, l.code LIMIT $3"
_SAMPLE = f"""{_SELECT} WHERE (l.domain_id, l.code) IN (
    SELECT domain_id, code FROM links TABLESAMPLE SYSTEM ($1) ORDER BY random() LIMIT $2)"""  # noqa: S608
_BY_KEY = f"""{_SELECT} JOIN unnest($1::text[], $2::text[]) AS k (host, code)
    ON k.host = d.host AND k.code = l.code"""

Records = dict[LinkKey, LinkRecord]


async def every_link(postgres: Postgres) -> AsyncIterator[Records]:
    """Yield all links in batches, in the order of their keys; each batch is one short query."""
    domain_id, code = 0, ""
    while True:
        async with postgres.connection() as connection:
            rows = await connection.fetch(_AFTER, domain_id, code, BATCH)
        if not rows:
            return
        yield _records(rows)
        domain_id, code = rows[-1]["domain_id"], rows[-1]["code"]


async def sample_links(postgres: Postgres, size: int) -> Records:
    """Return a random sample of about `size` links, without a scan of the whole table."""
    async with postgres.connection() as connection:
        estimate = await connection.fetchval(
            "SELECT reltuples FROM pg_class WHERE oid = 'links'::regclass"
        )
        # PostgreSQL samples pages, not rows: twice the size is enough. A small table is read whole.
        percent = min(100.0, max(200 * size / estimate, 0.01)) if estimate > 0 else 100.0
        return _records(await connection.fetch(_SAMPLE, percent, size))


async def links_by_key(postgres: Postgres, keys: Sequence[LinkKey]) -> Records:
    """Return the links of `keys` that exist."""
    hosts, codes = zip(*map(split_key, keys), strict=True) if keys else ((), ())
    async with postgres.connection() as connection:
        return _records(await connection.fetch(_BY_KEY, list(hosts), list(codes)))


def _records(rows: Iterable[Row]) -> Records:
    return {link_key(row["host"], row["code"]): record_of(row) for row in rows}
