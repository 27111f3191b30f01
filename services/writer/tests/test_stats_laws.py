"""Laws of statistics: parts of a period add up to the whole, and numbers are those of a count."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from harness.rollups import Click, rollups
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcore.clicks.rollups import DIMENSIONS, SLOTS, CorruptRollup, decode_dimension
from writer.stats.breakdowns import Breakdown
from writer.stats.periods import Interval, Period, Spans, day_of, slot_of, start_of
from writer.stats.repository import BreakdownRow, DayRow
from writer.stats.series import Series
from writer.stats.zones import _names, find_zone

ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "America/Havana",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Auckland",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
    )
]
# The clocks change in all of these zones that change them.
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 45

slots = st.integers(slot_of(FIRST), slot_of(FIRST) + DAYS * SLOTS)
clicks = st.lists(
    st.builds(
        Click,
        at=st.integers(0, DAYS * 24 * 60 - 1).map(lambda minute: FIRST + timedelta(minutes=minute)),
        visit=st.booleans(),
        visitor=st.integers(0, 5),
        stream=st.integers(0, 2),
        values=st.fixed_dictionaries({"os": st.sampled_from(["", "iOS", "Linux"])}),
    ),
    max_size=60,
)
zones = st.sampled_from(ZONES)
intervals = st.sampled_from(Interval)


def count(clicks, spans):
    """Return the series of `clicks`, read as PostgreSQL gives the rows."""
    series = Series(spans)
    rows = [
        DayRow(
            day,
            rollup.clicks,
            rollup.visits,
            rollup.encode()[0] if day in series.divided_days else None,
            rollup.encode()[2] if day in spans.period.whole_days else None,
        )
        for (day, _), rollup in sorted(rollups(clicks).items(), key=lambda item: item[0])
        if day in spans.period.days
    ]
    asyncio.run(series.add(rows))
    return series


def visitors_of(clicks, period):
    days = period.whole_days
    return len({(c.day, c.visitor) for c in clicks if c.visit and c.visitor and c.day in days})


@settings(deadline=None)
@given(clicks, zones, intervals, st.lists(slots, min_size=2, max_size=6, unique=True).map(sorted))
def test_the_parts_of_a_period_add_up_to_the_whole(clicks, zone, interval, cuts):
    whole = count(clicks, Spans.of(Period(cuts[0], cuts[-1], zone), interval, 10_000))
    parts = [
        count(clicks, Spans.of(Period(*cut, zone), interval, 10_000)) for cut in pairwise(cuts)
    ]
    for name in ("clicks", "visits", "visitors"):
        of_parts = [getattr(part.total, name) or 0 for part in parts]
        assert (getattr(whole.total, name) or 0) == sum(of_parts), name
    total = Counter[str]()
    for part in parts:
        assert [*part.spans.period.whole_days] == [
            day for day in whole.spans.period.whole_days if day in part.spans.period.whole_days
        ]
        total["days"] += len(part.spans.period.whole_days)
    assert total["days"] == len(whole.spans.period.whole_days)


@settings(deadline=None)
@given(clicks, zones, intervals, st.lists(slots, min_size=2, max_size=2, unique=True).map(sorted))
def test_a_series_is_what_a_count_over_all_clicks_gives(clicks, zone, interval, limits):
    period = Period(*limits, zone)
    series = count(clicks, Spans.of(period, interval, 10_000))
    inside = [click for click in clicks if period.start <= click.slot < period.end]
    assert series.total.clicks == len(inside)
    assert series.total.visits == sum(click.visit for click in inside)
    assert (series.total.visitors or 0) == visitors_of(clicks, period)
    assert (series.total.visitors is None) is (not period.whole_days)
    edges = series.spans.edges
    for counts, first, last in zip(series.points, edges, edges[1:], strict=False):
        mine = [click for click in inside if first <= click.slot < last]
        assert (counts.clicks, counts.visits) == (len(mine), sum(click.visit for click in mine))
        if interval is not Interval.HOUR:
            assert (counts.visitors or 0) == visitors_of(clicks, Period(first, last, zone))


@given(zones, intervals, st.lists(slots, min_size=2, max_size=2, unique=True).map(sorted))
def test_intervals_cover_the_period_and_each_is_within_one_hour_day_week_or_month(
    zone, interval, limits
):
    period = Period(*limits, zone)
    edges = Spans.of(period, interval, 10_000).edges
    assert (edges[0], edges[-1]) == (period.start, period.end)
    assert edges == sorted(set(edges))
    names = {
        Interval.HOUR: lambda at: (at.date(), at.hour, at.utcoffset()),
        Interval.DAY: lambda at: at.date(),
        Interval.WEEK: lambda at: at.isocalendar()[:2],
        Interval.MONTH: lambda at: (at.year, at.month),
    }
    name = names[interval]
    seen = []
    for first, last in pairwise(edges):
        within = {name(period.at(slot)) for slot in range(first, last)}
        assert len(within) == 1, (first, last)
        seen += within
    assert len(seen) == len(set(seen)), "two intervals of one hour, day, week or month"


@given(zones, st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.integers(1, 400))
def test_the_period_before_whole_days_has_as_many_days_and_ends_where_they_begin(zone, first, days):
    period = Period(start_of(first, zone), start_of(first + timedelta(days=days), zone), zone)
    before = period.previous()
    assert before.end == period.start
    last = first + timedelta(days=days)
    counted = len(Spans.of(before, Interval.DAY, 1000).edges) - 1
    if first.day == last.day == 1:
        months = (last.year - first.year) * 12 + last.month - first.month
        assert len(Spans.of(before, Interval.MONTH, 1000).edges) - 1 == months
    else:
        assert counted == days


def test_the_offsets_of_all_zones_are_multiples_of_a_slot():
    for name in sorted(_names()):
        zone = find_zone(name)
        for year in range(2000, 2040):
            for month in (1, 7):
                at = datetime(year, month, 1, tzinfo=zone)
                assert not at.utcoffset() % timedelta(minutes=15), (name, year)


@given(clicks, st.sampled_from(["visits", "clicks"]))
def test_a_breakdown_is_what_a_count_over_all_clicks_gives(clicks, by):
    rows = [
        BreakdownRow(rollup.clicks, rollup.visits, rollup.encode()[1])
        for rollup in rollups(clicks).values()
    ]
    breakdown = Breakdown("os", by)
    asyncio.run(breakdown.add(rows))
    found = breakdown.page(None, 100)
    wanted = Counter(click.values["os"] for click in clicks)
    visits = Counter(click.values["os"] for click in clicks if click.visit)
    assert {each.value: (each.clicks, each.visits) for each in found} == {
        value: (number, visits[value]) for value, number in wanted.items()
    }
    one_by_one, after = [], None
    while page := breakdown.page(after, 1):
        one_by_one += page
        after = breakdown.rank(page[0])
    assert one_by_one == found


def test_a_dimension_of_older_or_corrupt_rows():
    old = msgspec.msgpack.encode([{"DE": [2, 1]}])
    assert decode_dimension(old, DIMENSIONS[0]) == {"DE": [2, 1]}
    assert decode_dimension(old, DIMENSIONS[-1]) == {}
    for corrupt in (b"", b"\xff", msgspec.msgpack.encode([{"DE": [1]}]), old[:-1]):
        with pytest.raises(CorruptRollup):
            decode_dimension(corrupt, DIMENSIONS[0])


def test_days_and_slots_are_numbered_from_1970():
    assert day_of(0) == date(1970, 1, 1)
    assert start_of(date(1970, 1, 2), ZoneInfo("UTC")) == SLOTS
