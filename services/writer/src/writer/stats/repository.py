"""All SQL that reads statistics."""

from collections.abc import Collection
from datetime import date
from typing import Final

import msgspec

from shortcore.clicks.rollups import Kind
from shortcore.storage.postgres import Connection
from writer.stats.periods import day_of

# A part that is not needed stays NULL, so that PostgreSQL does not read it: a row may have many KB.
_DAYS = """
SELECT day - DATE '1970-01-01' AS day, clicks, visits,
    CASE WHEN day = ANY ($5::date[]) THEN series END AS series,
    CASE WHEN day >= $6 AND day < $7 THEN visitors END AS visitors
FROM clicks_daily
WHERE kind = $1 AND subject = $2 AND day >= $3 AND day < $4
ORDER BY clicks_daily.day
"""

_BREAKDOWNS = """
SELECT clicks, visits, breakdowns FROM clicks_daily
WHERE kind = $1 AND subject = $2 AND day >= $3 AND day < $4
"""

_TAG = "SELECT id FROM stats_tags WHERE tag = $1"

_TAG_IN_USE = """
SELECT EXISTS (SELECT FROM links AS l WHERE l.tags <> '{}' AND l.tags @> ARRAY[$1::text])
"""

_TOP = """
SELECT d.host, l.code, l.title, n.clicks, n.visits
FROM (
    SELECT c.subject, sum(c.clicks)::bigint AS clicks, sum(c.visits)::bigint AS visits
    FROM clicks_daily AS c{joined}
    WHERE c.kind = 1 AND c.day >= $1 AND c.day < $2{condition}
    GROUP BY c.subject
    ORDER BY {by} DESC, c.subject DESC LIMIT $3 + {spare}
) AS n
JOIN links AS l ON l.id = n.subject JOIN domains AS d ON d.id = l.domain_id
ORDER BY n.{by} DESC, n.subject DESC LIMIT $3
"""
_SPARE = 100
"""Links that are read in excess, because links that were purged have rows, too."""

_OF_LINKS = " JOIN links AS l ON l.id = c.subject"


class Subject(msgspec.Struct, frozen=True):
    """What the statistics are about; `id` is None for a tag that has never been counted."""

    kind: Kind
    id: int | None


ALL: Final = Subject(Kind.ALL, 0)


class DayRow(msgspec.Struct, frozen=True):
    """The counts of a subject on a UTC day (a number of days since 1970) in one click stream.

    `series` and `visitors` are encoded, and None if they were not asked for.
    """

    day: int
    clicks: int
    visits: int
    series: bytes | None
    visitors: bytes | None


class BreakdownRow(msgspec.Struct, frozen=True):
    """The counts of a subject on a UTC day in one click stream, and its encoded breakdowns."""

    clicks: int
    visits: int
    breakdowns: bytes


class TopLink(msgspec.Struct, frozen=True):
    """A link with its counts in a period."""

    host: str
    code: str
    title: str | None
    clicks: int
    visits: int


async def find_days(
    connection: Connection,
    subject: Subject,
    days: range,
    *,
    series: Collection[int],
    visitors: range,
) -> list[DayRow]:
    """Return the rows of `days` in their order, with the series and visitors of the days named."""
    rows = await connection.fetch(
        _DAYS,
        subject.kind,
        subject.id,
        *_limits(days),
        [day_of(day) for day in days if day in series],
        *_limits(visitors),
    )
    return [DayRow(*row) for row in rows]


async def find_breakdowns(
    connection: Connection, subject: Subject, days: range
) -> list[BreakdownRow]:
    """Return the breakdowns of `days`."""
    rows = await connection.fetch(_BREAKDOWNS, subject.kind, subject.id, *_limits(days))
    return [BreakdownRow(*row) for row in rows]


async def find_tag(connection: Connection, tag: str) -> int | None:
    """Return the id of a tag in clicks_daily, or None if no click of it was counted."""
    found: int | None = await connection.fetchval(_TAG, tag)
    return found


async def is_tag_in_use(connection: Connection, tag: str) -> bool:
    """Return whether a link has the tag, also one in the trash."""
    return bool(await connection.fetchval(_TAG_IN_USE, tag))


async def find_top_links(
    connection: Connection,
    days: range,
    limit: int,
    *,
    by: str,
    domain_id: int | None = None,
    tag: str | None = None,
) -> list[TopLink]:
    """Return the links with the most visits or clicks, which `by` names, in `days`.

    Only links of the domain or with the tag count, if one is given.
    """
    joined, condition, arguments = "", "", list[object]()
    if domain_id is not None:
        joined, condition, arguments = _OF_LINKS, " AND l.domain_id = $4", [domain_id]
    elif tag is not None:
        condition = " AND l.tags <> '{}' AND l.tags @> ARRAY[$4::text]"
        joined, arguments = _OF_LINKS, [tag]
    statement = _TOP.format(joined=joined, condition=condition, by=by, spare=_SPARE)
    rows = await connection.fetch(statement, *_limits(days), limit, *arguments)
    return [TopLink(*row) for row in rows]


def _limits(days: range) -> tuple[date, date]:
    return day_of(days.start), day_of(days.stop)
