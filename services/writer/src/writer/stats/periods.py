"""Periods of time: their beginning and end in a time zone, their intervals, and the period before.

All times are slots: quarter hours since 1970 in UTC, as rollups have them. The offset of every time
zone has been a multiple of a quarter hour since 2000, so days and hours begin with a slot.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from shortcore.clicks.rollups import SLOT_MS, SLOTS

SLOT: Final = timedelta(milliseconds=SLOT_MS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_MONTHS = 12


class Interval(enum.StrEnum):
    """The length of the parts of a series."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Period:
    """The time from the slot `start` up to but not including the slot `end`, seen in `zone`."""

    start: int
    end: int
    zone: ZoneInfo

    @property
    def days(self) -> range:
        """The UTC days with at least one slot in the period, as numbers of days since 1970."""
        return range(self.start // SLOTS, -(-self.end // SLOTS))

    @property
    def whole_days(self) -> range:
        """The UTC days that count as a whole for the period: those whose noon is in it.

        Each day belongs to exactly one of several periods that follow each other.
        """
        half = SLOTS // 2
        return range(-(-(self.start - half) // SLOTS), -(-(self.end - half) // SLOTS))

    def previous(self) -> "Period":
        """Return the period of the same length that ends where this one starts.

        A period of whole months or days is as many months or days long; others are as long in hours.
        """
        first, last = self._date_at(self.start), self._date_at(self.end)
        if first is None or last is None:
            return Period(2 * self.start - self.end, self.start, self.zone)
        if first.day == last.day == 1:
            months = (last.year - first.year) * _MONTHS + last.month - first.month
            before = _add_months(first, -months)
        else:
            before = first - (last - first)
        return Period(start_of(before, self.zone), self.start, self.zone)

    def at(self, slot: int) -> datetime:
        """Return the time at which `slot` begins."""
        return time_of(slot).astimezone(self.zone)

    def _date_at(self, slot: int) -> date | None:
        """Return the day that begins with `slot`, or None."""
        day = self.at(slot).date()
        return day if start_of(day, self.zone) == slot else None


@dataclass(frozen=True, slots=True)
class Spans:
    """A period divided into intervals: interval i has the slots from edges[i] up to edges[i + 1].

    The first interval begins at the start of the period, the last one ends with it. Hours begin at
    full hours of the wall clock, and where the offset changes; weeks begin on Monday.
    """

    period: Period
    interval: Interval
    edges: list[int]

    @classmethod
    def of(cls, period: Period, interval: Interval, limit: int) -> "Spans":
        """Divide `period`. If there are more than `limit` intervals, the last ones are missing."""
        starts = _hours(period) if interval is Interval.HOUR else _dates(period, interval)
        edges = [*islice(starts, limit + 1)]
        return cls(period, interval, edges if len(edges) > limit else [*edges, period.end])

    def at(self, number: int) -> datetime:
        """Return the time at which an interval begins, or with -1 at which the last one ends."""
        return self.period.at(self.edges[number])

    def previous(self) -> "Spans":
        """Divide the period before into the same intervals, which may be a few more."""
        return Spans.of(self.period.previous(), self.interval, 2 * len(self.edges))


def start_of(day: date, zone: ZoneInfo) -> int:
    """Return the slot with which `day` begins in `zone`."""
    # If the clock skips midnight, this is where it does so; if midnight comes twice, the first.
    return slot_of(datetime.combine(day, time(), zone))


def slot_of(at: datetime) -> int:
    """Return the slot of `at`."""
    return (at.astimezone(UTC) - _EPOCH) // SLOT


def time_of(slot: int) -> datetime:
    """Return the time at which `slot` begins, in UTC."""
    return _EPOCH + slot * SLOT


def day_of(number: int) -> date:
    """Return the date of a number of days since 1970."""
    return _EPOCH.date() + timedelta(days=number)


def _hours(period: Period) -> Iterator[int]:
    slot, at = period.start, period.at(period.start)
    while slot < period.end:
        yield slot
        offset = at.utcoffset()
        for _ in range((timedelta(hours=1) - timedelta(minutes=at.minute)) // SLOT):
            slot += 1
            at = period.at(slot)
            if at.utcoffset() != offset:
                break


def _dates(period: Period, interval: Interval) -> Iterator[int]:
    slot, day = period.start, period.at(period.start).date()
    while slot < period.end:
        yield slot
        before = slot
        while slot <= before:  # a zone that crosses the date line skips a day
            day = _next(day, interval)
            slot = start_of(day, period.zone)


def _next(day: date, interval: Interval) -> date:
    if interval is Interval.DAY:
        return day + _DAY
    if interval is Interval.WEEK:
        return day + (7 - day.weekday()) * _DAY
    return _add_months(day, 1)


def _add_months(day: date, months: int) -> date:
    """Return the first day of the month that is `months` after that of `day`."""
    count = day.year * _MONTHS + day.month - 1 + months
    return date(count // _MONTHS, count % _MONTHS + 1, 1)
