"""The query parameters of statistics, and the period that they name."""

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from shortcore.clicks.rollups import DIMENSIONS
from shortcore.errors import FieldError
from writer.http.cursors import MAX_VALUE_LENGTH
from writer.http.fields import Number, Text, read_instant
from writer.http.problems import invalid
from writer.stats.periods import SLOT, Interval, Period, Spans, slot_of, start_of, time_of
from writer.stats.zones import find_zone

MAX_POINTS: Final = 1000
"""Maximum number of points of a series."""

MAX_DAYS: Final = 3660
"""Maximum length of a period: ten years."""

MAX_ITEMS: Final = 100
DEFAULT_DAYS: Final = 30

_FIRST_YEAR, _LAST_YEAR = 2000, 2199
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUARTER = 15
_MINUTES = "(00|15|30|45)"
_TIME_SCHEMA = {
    "type": "string",
    "pattern": r"^2[01][0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    rf"([Tt]([01][0-9]|2[0-3]):{_MINUTES}:00(\.0{{1,9}})?([Zz]|[+-]([01][0-9]|2[0-3]):{_MINUTES}))?$",
}
_ZONE_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "pattern": "^[A-Za-z0-9_+/-]+$",
}
_CURSOR_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_VALUE_LENGTH,
    "pattern": "^[A-Za-z0-9_-]+$",
}


def _day_or_time(value: object) -> date | datetime:
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("instant", "This date does not exist.") from None
        return _within_years(day)
    at = read_instant(value)
    if not isinstance(at, datetime) or time_of(slot_of(at)) != at:
        raise PydanticCustomError(
            "step", "A time must be at a quarter of an hour, such as 2030-01-31T12:15:00Z."
        )
    return _within_years(at)


def _within_years(day: date) -> date:
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise PydanticCustomError(
            "range",
            "A date or time must be between the years {first} and {last}.",
            {"first": _FIRST_YEAR, "last": _LAST_YEAR},
        )
    return day


def _zone(value: object) -> ZoneInfo:
    zone = find_zone(value) if isinstance(value, str) else None
    if zone is None:
        raise PydanticCustomError(
            "choice", "There is no such time zone; use an IANA name, such as Europe/Berlin."
        )
    return zone


DayOrTime = Annotated[date | datetime, PlainValidator(_day_or_time), WithJsonSchema(_TIME_SCHEMA)]
Zone = Annotated[ZoneInfo, PlainValidator(_zone), WithJsonSchema(_ZONE_SCHEMA)]
_UTC = ZoneInfo("UTC")


def _dimension(value: str) -> str:
    if value not in DIMENSIONS:
        raise PydanticCustomError(
            "choice",
            "There is no such dimension; there are {names}.",
            {"names": ", ".join(DIMENSIONS)},
        )
    return value


DimensionInPath = Annotated[
    str,
    AfterValidator(_dimension),
    WithJsonSchema({"type": "string", "enum": [*DIMENSIONS]}),
]


class PeriodQuery(BaseModel):
    """A period of time. Unknown parameters are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: DayOrTime | None = Field(
        None,
        alias="from",
        description="Begin of the period: a date, from its start in `timezone`, or a time with an"
        f" offset. By default, the period has {DEFAULT_DAYS} days.",
    )
    to: DayOrTime | None = Field(
        None,
        description="End of the period: a date, up to its end in `timezone`, or a time with an"
        " offset, which is not included. Today by default.",
    )
    timezone: Zone | None = Field(
        None,
        description="IANA name of the time zone of dates and of the series, such as Europe/Berlin."
        " UTC by default.",
    )

    def period(self, now: datetime) -> Period:
        """Return the period that the request names at the time `now`; raises InvalidInput."""
        zone = self.timezone or _UTC
        if isinstance(self.to, datetime):
            end = slot_of(self.to)
        else:
            end = start_of((self.to or now.astimezone(zone).date()) + timedelta(days=1), zone)
        if isinstance(self.from_, datetime):
            start = slot_of(self.from_)
        elif self.from_ is not None:
            start = start_of(self.from_, zone)
        else:
            last = Period(end - 1, end, zone).at(end - 1).date()
            start = start_of(last - timedelta(days=DEFAULT_DAYS - 1), zone)
        if start >= end:
            raise _refused("?from", "order", "`from` must be before `to`.")
        if (end - start) * SLOT > timedelta(days=MAX_DAYS):
            raise _refused("?from", "range", f"A period may have at most {MAX_DAYS} days.")
        return Period(start, end, zone)


class StatsQuery(PeriodQuery):
    """Which period to count, and into which intervals to divide it."""

    interval: Interval | None = Field(
        None,
        description="Length of the intervals of the series. By default `hour` for up to 2 days,"
        f" `day` for up to {MAX_POINTS} days, and otherwise `month`.",
    )
    compare: Literal["previous"] | None = Field(
        None, description="Adds the period of the same length before."
    )

    def spans(self, now: datetime) -> Spans:
        """Return the period with its intervals; raises InvalidInput if it has too many."""
        period = self.period(now)
        interval = self.interval or _default_interval(period)
        spans = Spans.of(period, interval, MAX_POINTS)
        if spans.edges[-1] != period.end:
            detail = (
                f"The period has more than {MAX_POINTS} intervals of one {interval}; choose a"
                " longer interval or a shorter period."
            )
            raise _refused("?interval", "range", detail)
        return spans


class ItemsQuery(PeriodQuery):
    """Which values or links to list, for which period."""

    by: Literal["visits", "clicks"] | None = Field(
        None, description="What decides the order: `visits` by default; `clicks` for bots."
    )
    limit: Number = Field(10, ge=1, le=MAX_ITEMS, description="Maximum number of items.")


class BreakdownQuery(ItemsQuery):
    """Which values to list, for which period."""

    cursor: Annotated[Text, WithJsonSchema(_CURSOR_SCHEMA)] | None = Field(
        None, description="`next` of the previous page."
    )


def _default_interval(period: Period) -> Interval:
    length = (period.end - period.start) * SLOT
    if length <= timedelta(days=2):
        return Interval.HOUR
    return Interval.DAY if length <= timedelta(days=MAX_POINTS) else Interval.MONTH


def _refused(pointer: str, rule: str, detail: str) -> Exception:
    return invalid([FieldError(pointer, rule, detail)])
