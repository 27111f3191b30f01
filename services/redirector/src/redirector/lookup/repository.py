"""All SQL of the redirector.

Every function raises DatabaseUnavailable if the server is down, is too slow, or answers with an
error (such as one of a wrong schema): in each case, the lookup cannot be made now.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import asyncpg
import msgspec
import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.links.event_rows import insert_events
from shortcore.links.record import LinkKey, LinkRecord, link_key, split_key
from shortcore.links.row_mapping import RECORD_COLUMNS, record_of
from shortcore.storage.postgres import Connection, Postgres

log = structlog.stdlib.get_logger(__name__)

# LIMIT keeps the inner query from being joined any other way than by its key, whatever the
# planner believes about a table it has not analysed yet.
_FIND = f"""
SELECT k.host, k.key_code, f.*,
    CASE WHEN pg_is_in_recovery()
        THEN (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint
        ELSE (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    END AS as_of_ms
FROM unnest($1::text[], $2::text[]) AS k (host, key_code)
JOIN domains d ON d.host = k.host
CROSS JOIN LATERAL (
    SELECT {RECORD_COLUMNS} FROM links l
    WHERE l.domain_id = d.id AND l.code = k.key_code LIMIT 1
) f
"""  # noqa: S608  # a constant of ours

# The last visit is also an event for webhooks.
_COUNT = f"""
WITH l AS (
    UPDATE links l SET visits = visits + 1 FROM domains d
    WHERE d.host = $1 AND l.domain_id = d.id AND l.code = $2
        AND l.version = $3 AND l.enabled AND l.deleted_at IS NULL AND l.visits < l.max_visits
    RETURNING l.*
), e AS ({insert_events("'link.exhausted'", "$1", "l", "l.visits >= l.max_visits")})
SELECT true FROM l
"""  # noqa: S608  # constants of ours

_LEFT = """
SELECT l.max_visits FROM links l JOIN domains d ON d.id = l.domain_id
WHERE d.host = $1 AND l.code = $2
    AND l.version = $3 AND l.enabled AND l.deleted_at IS NULL AND l.visits < l.max_visits
"""

_DOMAINS = (
    "SELECT host, default_target, not_found_target, case_insensitive FROM domains ORDER BY host"
)

_COUNT_CUSTOM = "SELECT count(*) FROM (SELECT FROM links WHERE custom LIMIT $1) AS counted"

_CUSTOM = """
SELECT l.domain_id, d.host, l.code FROM links l JOIN domains d ON d.id = l.domain_id
WHERE l.custom AND (l.domain_id, l.code) > ($1, $2)
ORDER BY l.domain_id, l.code LIMIT $3
"""

_CUSTOM_BATCH = 2000

# The oldest and the newest: a secret that was changed divides the links by their age.
_SAMPLE_GENERATED = """
SELECT code FROM (
    (SELECT code, custom FROM links ORDER BY created_at, id LIMIT $1)
    UNION ALL (SELECT code, custom FROM links ORDER BY created_at DESC, id DESC LIMIT $1)
) AS sample WHERE NOT custom
"""

_SAMPLED = 500


class Found(NamedTuple):
    """A record, and the time (Unix ms, PostgreSQL's clock) as of which it is current.

    `as_of_ms` is None for a replica that cannot tell how far behind it is.
    """

    record: LinkRecord
    as_of_ms: int | None


class DomainRow(msgspec.Struct, frozen=True, array_like=True):
    """A domain, the targets of its root and of unknown codes, and whether codes ignore case.

    Redis holds a copy of all rows: new fields go to the end and have a default.
    """

    host: str
    default_target: str | None = None
    not_found_target: str | None = None
    case_insensitive: bool = False


async def find_links(postgres: Postgres, keys: Sequence[LinkKey]) -> dict[LinkKey, Found]:
    """Return the record of each of `keys`; keys without a row are left out."""
    hosts, codes = zip(*map(split_key, keys), strict=True)
    async with _answering(postgres) as connection:
        rows = await connection.fetch(_FIND, hosts, codes)
    return {
        link_key(row["host"], row["key_code"]): Found(record_of(row), row["as_of_ms"])
        for row in rows
    }


async def count_visit(postgres: Postgres, key: LinkKey, version: int) -> bool:
    """Count one visit of a limited link; False if none is left or `version` is not current."""
    async with _answering(postgres) as connection:
        return await connection.fetchval(_COUNT, *split_key(key), version) is True


async def limit_with_visits_left(postgres: Postgres, key: LinkKey, version: int) -> int | None:
    """Return `max_visits` if count_visit would count a visit, else None."""
    async with _answering(postgres) as connection:
        limit: int | None = await connection.fetchval(_LEFT, *split_key(key), version)
        return limit


async def list_domains(postgres: Postgres) -> list[DomainRow]:
    """Return all domains."""
    async with _answering(postgres) as connection:
        rows = await connection.fetch(_DOMAINS)
    return [DomainRow(*row.values()) for row in rows]


async def count_custom(postgres: Postgres, most: int) -> int:
    """Return the number of links with a custom code, at most `most`."""
    async with _answering(postgres) as connection:
        return int(await connection.fetchval(_COUNT_CUSTOM, most))


async def custom_keys(postgres: Postgres) -> AsyncIterator[Sequence[LinkKey]]:
    """Yield the keys of all links with a custom code, whatever their state."""
    after: tuple[int, str] = (0, "")
    while True:
        async with _answering(postgres) as connection:
            rows = await connection.fetch(_CUSTOM, *after, _CUSTOM_BATCH)
        if not rows:
            return
        yield [link_key(row["host"], row["code"]) for row in rows]
        after = rows[-1]["domain_id"], rows[-1]["code"]


async def sample_generated(postgres: Postgres) -> Sequence[str]:
    """Return the generated codes among the oldest and the newest links."""
    async with _answering(postgres) as connection:
        rows = await connection.fetch(_SAMPLE_GENERATED, _SAMPLED)
    return [row["code"] for row in rows]


@contextlib.asynccontextmanager
async def _answering(postgres: Postgres) -> AsyncIterator[Connection]:
    try:
        async with postgres.connection() as connection:
            yield connection
    except asyncpg.PostgresError as error:
        log.error("PostgreSQL refused a statement", error=str(error), sqlstate=error.sqlstate)  # noqa: TRY400  # its text says all, at any rate of requests
        raise DatabaseUnavailable(f"PostgreSQL refused: {error}") from error
