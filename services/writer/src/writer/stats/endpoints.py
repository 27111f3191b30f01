"""The HTTP endpoints of statistics."""

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from shortcore.errors import FieldError
from writer.http.cursors import ValueCursor, encode, rank_before
from writer.http.dependencies import provided
from writer.http.fields import CodeInPath, HostInPath, TagInPath
from writer.http.json_route import JsonRoute
from writer.http.negotiation import CSV, prefers_csv
from writer.http.paging import link_header
from writer.http.problems import invalid
from writer.http.response_docs import ResponseDocs, describe_header, documented
from writer.http.responses import json_response
from writer.stats.csv import breakdown_csv, stats_csv, top_links_csv
from writer.stats.parameters import BreakdownQuery, DimensionInPath, ItemsQuery, StatsQuery
from writer.stats.periods import Period
from writer.stats.repository import ALL, Subject
from writer.stats.schemas import breakdown_view, stats_view, top_links_view
from writer.stats.service import StatsService

View = TypeVar("View")

router = APIRouter(prefix="/api/v1", tags=["stats"], route_class=JsonRoute)

Stats = Annotated[StatsService, Depends(provided(StatsService))]
Asked = Annotated[StatsQuery, Query()]
AskedValues = Annotated[BreakdownQuery, Query()]
AskedLinks = Annotated[ItemsQuery, Query()]


class _Tag(StringConvertor):
    """A tag in a path. It may contain slashes, which the server decodes from %2F."""

    regex = ".+"


register_url_convertor("tag", _Tag())

_LINK = "/links/{domain}/{code:code}/stats"
_DOMAIN = "/domains/{host}/stats"
_TAG = "/tags/{tag:tag}/stats"
_ALL = "/stats"

_CSV_EXAMPLES = {
    "StatsView": "period,at,clicks,visits,visitors\r\ncurrent,2029-11-05T00:00:00+01:00,12,9,7\r\n",
    "BreakdownView": "country,clicks,visits,share\r\nDE,12,9,0.75\r\n",
    "TopLinksView": "short_url,domain,code,title,clicks,visits\r\n"
    "https://go.example.com/spring-sale,go.example.com,spring-sale,,12,9\r\n",
}


def _documented(view: str, *others: int, sends: tuple[str, ...] = ()) -> ResponseDocs:
    docs = documented(200, view, 422, *others, sends=sends)
    docs[200]["headers"]["Vary"] = describe_header("Vary")
    docs[200]["content"][CSV] = {"schema": {"type": "string"}, "example": _CSV_EXAMPLES[view]}
    return docs


@router.get(_LINK, summary="Count a link", responses=_documented("StatsView", 404))
async def get_link_stats(
    request: Request, stats: Stats, domain: HostInPath, code: CodeInPath, query: Asked
) -> Response:
    """Return clicks, visits and visitors of a link in a period, deleted or not."""
    return await _stats(request, stats, await stats.link(domain, code), query)


@router.get(_DOMAIN, summary="Count a domain", responses=_documented("StatsView", 404))
async def get_domain_stats(
    request: Request, stats: Stats, host: HostInPath, query: Asked
) -> Response:
    """Return clicks, visits and visitors of all links of a domain in a period."""
    return await _stats(request, stats, await stats.domain(host), query)


@router.get(_TAG, summary="Count a tag", responses=_documented("StatsView", 404))
async def get_tag_stats(request: Request, stats: Stats, tag: TagInPath, query: Asked) -> Response:
    """Return clicks, visits and visitors of links that had the tag when they were clicked."""
    return await _stats(request, stats, await stats.tag(tag), query)


@router.get(_ALL, summary="Count all links", responses=_documented("StatsView"))
async def get_stats(request: Request, stats: Stats, query: Asked) -> Response:
    """Return clicks, visits and visitors of all links in a period."""
    return await _stats(request, stats, ALL, query)


@router.get(
    f"{_DOMAIN}/links", summary="Top links of a domain", responses=_documented("TopLinksView", 404)
)
async def get_domain_top_links(
    request: Request, stats: Stats, host: HostInPath, query: AskedLinks
) -> Response:
    """Return the links of a domain with the most visits or clicks in a period."""
    return await _top_links(request, stats, query, domain=host)


@router.get(
    f"{_TAG}/links", summary="Top links of a tag", responses=_documented("TopLinksView", 404)
)
async def get_tag_top_links(
    request: Request, stats: Stats, tag: TagInPath, query: AskedLinks
) -> Response:
    """Return the links that have the tag now with the most visits or clicks in a period."""
    return await _top_links(request, stats, query, tag=tag)


@router.get(f"{_ALL}/links", summary="Top links", responses=_documented("TopLinksView"))
async def get_top_links(request: Request, stats: Stats, query: AskedLinks) -> Response:
    """Return the links with the most visits or clicks in a period."""
    return await _top_links(request, stats, query)


@router.get(
    f"{_LINK}/{{dimension}}",
    summary="Break down a link",
    responses=_documented("BreakdownView", 404, sends=("Link",)),
)
async def get_link_breakdown(
    request: Request,
    stats: Stats,
    domain: HostInPath,
    code: CodeInPath,
    dimension: DimensionInPath,
    query: AskedValues,
) -> Response:
    """Return a page of the values of a dimension, such as countries, with their counts."""
    return await _breakdown(request, stats, await stats.link(domain, code), dimension, query)


@router.get(
    f"{_DOMAIN}/{{dimension}}",
    summary="Break down a domain",
    responses=_documented("BreakdownView", 404, sends=("Link",)),
)
async def get_domain_breakdown(
    request: Request,
    stats: Stats,
    host: HostInPath,
    dimension: DimensionInPath,
    query: AskedValues,
) -> Response:
    """Return a page of the values of a dimension, such as countries, with their counts."""
    return await _breakdown(request, stats, await stats.domain(host), dimension, query)


@router.get(
    f"{_TAG}/{{dimension}}",
    summary="Break down a tag",
    responses=_documented("BreakdownView", 404, sends=("Link",)),
)
async def get_tag_breakdown(
    request: Request,
    stats: Stats,
    tag: TagInPath,
    dimension: DimensionInPath,
    query: AskedValues,
) -> Response:
    """Return a page of the values of a dimension, such as countries, with their counts."""
    return await _breakdown(request, stats, await stats.tag(tag), dimension, query)


@router.get(
    f"{_ALL}/{{dimension}}",
    summary="Break down all links",
    responses=_documented("BreakdownView", sends=("Link",)),
)
async def get_breakdown(
    request: Request, stats: Stats, dimension: DimensionInPath, query: AskedValues
) -> Response:
    """Return a page of the values of a dimension, such as countries, with their counts."""
    return await _breakdown(request, stats, ALL, dimension, query)


async def _stats(
    request: Request, stats: StatsService, subject: Subject, query: StatsQuery
) -> Response:
    spans = query.spans(stats.now())
    series = await stats.series(subject, spans)
    compared = query.compare is not None
    before = await stats.series(subject, spans.previous()) if compared else None
    return _respond(request, stats_view(series, before), stats_csv)


async def _breakdown(
    request: Request, stats: StatsService, subject: Subject, dimension: str, query: BreakdownQuery
) -> Response:
    by = query.by or ("clicks" if dimension == "bot" else "visits")
    after = rank_before(query.cursor, dimension, by)
    days = _whole_days(query.period(stats.now()))
    breakdown = await stats.breakdown(subject, days, dimension, by)
    found = breakdown.page(after, query.limit + 1)
    page, more = found[: query.limit], len(found) > query.limit
    cursor = encode(ValueCursor(dimension, by, breakdown.rank(page[-1]))) if more else None
    view = breakdown_view(days, breakdown, page, cursor)
    return _respond(request, view, breakdown_csv, link_header(request, cursor))


async def _top_links(
    request: Request,
    stats: StatsService,
    query: ItemsQuery,
    *,
    domain: str | None = None,
    tag: str | None = None,
) -> Response:
    by = query.by or "visits"
    days = _whole_days(query.period(stats.now()))
    found = await stats.top_links(days, by, query.limit, domain=domain, tag=tag)
    return _respond(request, top_links_view(days, by, found), top_links_csv)


def _whole_days(period: Period) -> range:
    days = period.whole_days
    if not days:
        detail = (
            "Values and links are counted by UTC days, and this period has no noon of such a day;"
            " choose a longer period."
        )
        raise invalid([FieldError("?from", "range", detail)])
    return days


def _respond(
    request: Request,
    view: View,
    to_csv: Callable[[View], str],
    headers: Mapping[str, str] | None = None,
) -> Response:
    sent = {"vary": "Accept", **(headers or {})}
    if prefers_csv(request.headers.get("accept")):
        return Response(to_csv(view), headers=sent, media_type=CSV)
    return json_response(view, headers=sent)
