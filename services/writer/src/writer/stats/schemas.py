"""The JSON form of statistics in responses."""

from typing import Annotated

import msgspec

from shortcore.clicks.rollups import SLOTS
from writer.http.output_fields import AbsoluteUrl, Path, Time
from writer.stats.breakdowns import Breakdown, Value
from writer.stats.periods import Interval, time_of
from writer.stats.series import Series

_FROM = {"from_": "from"}

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Point(msgspec.Struct, frozen=True):
    """The counts of one interval, which begins at `at`."""

    at: Time
    clicks: int
    visits: int
    visitors: int | None


class PeriodView(msgspec.Struct, frozen=True, kw_only=True, rename=_FROM):
    """The counts of a period, and of each of its intervals."""

    from_: Time
    to: Time
    clicks: int
    visits: int
    visitors: int | None
    series: list[Point]


class StatsView(msgspec.Struct, frozen=True, kw_only=True, rename=_FROM):
    """Statistics of a period; with `compare`, also of the period before."""

    from_: Time
    to: Time
    timezone: str
    interval: Interval
    clicks: int
    visits: int
    visitors: int | None
    series: list[Point]
    previous: PeriodView | None


class ValueView(msgspec.Struct, frozen=True):
    """A value with its counts, and its share of all visits or clicks; null is a missing value."""

    value: str | None
    clicks: int
    visits: int
    share: Share


class BreakdownView(msgspec.Struct, frozen=True, kw_only=True, rename=_FROM):
    """One page of the values of a dimension; `clicks` and `visits` are those of all values."""

    from_: Time
    to: Time
    dimension: str
    by: str
    clicks: int
    visits: int
    items: list[ValueView]
    next: str | None


class TopLinkView(msgspec.Struct, frozen=True):
    """A link with its counts in the period."""

    domain: str
    code: str
    short_url: AbsoluteUrl
    title: str | None
    clicks: int
    visits: int
    self: Path


class TopLinksView(msgspec.Struct, frozen=True, kw_only=True, rename=_FROM):
    """The links with the most visits or clicks in a period."""

    from_: Time
    to: Time
    by: str
    items: list[TopLinkView]


def stats_view(series: Series, before: Series | None) -> StatsView:
    """Return a period, and the one before, as responses show them."""
    spans, total = series.spans, series.total
    return StatsView(
        from_=spans.at(0),
        to=spans.at(-1),
        timezone=spans.period.zone.key,
        interval=spans.interval,
        clicks=total.clicks,
        visits=total.visits,
        visitors=total.visitors,
        series=_points(series),
        previous=None if before is None else _period_view(before),
    )


def breakdown_view(
    days: range, breakdown: Breakdown, page: list[Value], cursor: str | None
) -> BreakdownView:
    """Return a page of values as responses show it."""
    return BreakdownView(
        from_=time_of(days.start * SLOTS),
        to=time_of(days.stop * SLOTS),
        dimension=breakdown.dimension,
        by=breakdown.by,
        clicks=breakdown.clicks,
        visits=breakdown.visits,
        items=[
            ValueView(each.value or None, each.clicks, each.visits, breakdown.share(each))
            for each in page
        ],
        next=cursor,
    )


def top_links_view(days: range, by: str, found: list[TopLinkView]) -> TopLinksView:
    """Return the top links as responses show them."""
    return TopLinksView(
        from_=time_of(days.start * SLOTS), to=time_of(days.stop * SLOTS), by=by, items=found
    )


def _period_view(series: Series) -> PeriodView:
    spans, total = series.spans, series.total
    return PeriodView(
        from_=spans.at(0),
        to=spans.at(-1),
        clicks=total.clicks,
        visits=total.visits,
        visitors=total.visitors,
        series=_points(series),
    )


def _points(series: Series) -> list[Point]:
    return [
        Point(series.spans.at(number), counts.clicks, counts.visits, counts.visitors)
        for number, counts in enumerate(series.points)
    ]
