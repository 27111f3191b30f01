"""Computes statistics from the rollups of days, with a bound on time, memory and concurrency."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Final

from shortcore.clicks.rollups import Kind
from shortcore.clicks.visitor_sketch import load_library
from shortcore.clock import Now
from shortcore.errors import TagNotFound, Unavailable
from shortcore.storage.postgres import Postgres
from writer.domains.cache import DomainCache
from writer.http.fields import is_tag
from writer.links.schemas import Presenter, api_path
from writer.links.service import LinkService
from writer.stats import repository
from writer.stats.breakdowns import Breakdown
from writer.stats.periods import Spans
from writer.stats.repository import Subject
from writer.stats.schemas import TopLinkView
from writer.stats.series import Series
from writer.storage.reads import Reads

MAX_RUNNING: Final = 4
"""Statistics computed at a time; each has up to about 100 MB of rows and values in memory."""

MAX_WAITING: Final = 64
MAX_SECONDS: Final = 10.0

_LINK_DAYS = 400
_DAYS = 64
_LINK_BREAKDOWN_DAYS = 32
_BREAKDOWN_DAYS = 8
"""Days that one query reads: a link has one row a day, other subjects one a click stream."""


class StatsService:
    """Answers what was clicked in a period. Statistics may come from the replica.

    Links, domains and tags are looked up on the primary, so that a new one is always found.
    """

    def __init__(
        self,
        *,
        postgres: Postgres,
        reads: Reads,
        domains: DomainCache,
        links: LinkService,
        presenter: Presenter,
        now: Now,
    ) -> None:
        self.now = now
        self._postgres = postgres
        self._reads = reads
        self._domains = domains
        self._links = links
        self._presenter = presenter
        self._running = asyncio.Semaphore(MAX_RUNNING)
        self._waiting = 0

    async def link(self, host: str, code: str) -> Subject:
        """Return the link as a subject, deleted or not; raises LinkNotFound."""
        link = await self._links.get(host, code)
        return Subject(Kind.LINK, link.record.link_id)

    async def domain(self, host: str) -> Subject:
        """Return the domain as a subject; raises DomainNotFound."""
        domain = await self._domains.find(host)
        return Subject(Kind.DOMAIN, domain.id)

    async def tag(self, tag: str) -> Subject:
        """Return the tag as a subject; raises TagNotFound if no link has or had it."""
        if is_tag(tag):
            async with self._postgres.connection() as connection:
                found = await repository.find_tag(connection, tag)
                if found is not None or await repository.is_tag_in_use(connection, tag):
                    return Subject(Kind.TAG, found)
        raise TagNotFound("There is no such tag.")

    async def series(self, subject: Subject, spans: Spans) -> Series:
        """Return the counts of a period and of its intervals."""
        await _load_sketches()
        series = Series(spans)
        size = _LINK_DAYS if subject.kind is Kind.LINK else _DAYS
        async with self._turn() as deadline:
            for days in _parts(spans.period.days, size):
                deadline.check()
                rows = await self._reads.read(
                    lambda connection, days=days: repository.find_days(  # type: ignore[misc]  # a default binds it
                        connection,
                        subject,
                        days,
                        series=series.divided_days,
                        visitors=spans.period.whole_days,
                    )
                )
                await series.add(rows)
        return series

    async def breakdown(self, subject: Subject, days: range, dimension: str, by: str) -> Breakdown:
        """Return the counts of the values of `dimension` in `days`."""
        breakdown = Breakdown(dimension, by)
        size = _LINK_BREAKDOWN_DAYS if subject.kind is Kind.LINK else _BREAKDOWN_DAYS
        async with self._turn() as deadline:
            for part in _parts(days, size):
                deadline.check()
                rows = await self._reads.read(
                    lambda connection, part=part: repository.find_breakdowns(  # type: ignore[misc]  # a default binds it
                        connection, subject, part
                    )
                )
                await breakdown.add(rows)
        return breakdown

    async def top_links(
        self, days: range, by: str, limit: int, *, domain: str | None = None, tag: str | None = None
    ) -> list[TopLinkView]:
        """Return the links with the most visits or clicks in `days`, of a domain or with a tag.

        Raises DomainNotFound, TagNotFound, and DatabaseUnavailable if it takes too long.
        """
        domain_id = None if domain is None else (await self.domain(domain)).id
        if tag is not None:
            await self.tag(tag)
        async with self._turn():
            found = await self._reads.read(
                lambda connection: repository.find_top_links(
                    connection, days, limit, by=by, domain_id=domain_id, tag=tag
                )
            )
        return [
            TopLinkView(
                domain=link.host,
                code=link.code,
                short_url=self._presenter.short_url(link.host, link.code),
                title=link.title,
                clicks=link.clicks,
                visits=link.visits,
                self=api_path(link.host, link.code),
            )
            for link in found
        ]

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator["_Deadline"]:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many requests wait for statistics; try again.")
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            yield _Deadline()
        finally:
            self._running.release()


class _Deadline:
    """The time at which a computation gives up."""

    def __init__(self) -> None:
        self._at = asyncio.get_running_loop().time() + MAX_SECONDS

    def check(self) -> None:
        if asyncio.get_running_loop().time() > self._at:
            raise Unavailable("These statistics take too long; choose a shorter period.")


def _parts(days: range, size: int) -> Iterator[range]:
    for first in range(0, len(days), size):
        yield days[first : first + size]


async def _load_sketches() -> None:
    # The import takes a quarter of a second, for which it would block the event loop.
    if "datasketches" not in sys.modules:
        await asyncio.to_thread(load_library)
