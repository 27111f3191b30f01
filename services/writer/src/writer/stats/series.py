"""Adds the rollups of days up to series: clicks, visits and visitors of each interval."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from shortcore.clicks.rollups import SLOTS, DayRollup, unique_visitors
from shortcore.runtime.turns import Turn
from writer.stats.periods import Interval, Spans
from writer.stats.repository import DayRow


@dataclass(slots=True)
class Counts:
    """Clicks and visits, and the visitors of the UTC days that count as a whole; None without any."""

    clicks: int = 0
    visits: int = 0
    visitors: int | None = None


class Series:
    """The counts of a period and of each of its intervals, to which days are added in any order."""

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.points = [Counts() for _ in spans.edges[1:]]
        # The clicks of other days are all in one interval, so their slots do not matter.
        self.divided_days = frozenset(edge // SLOTS for edge in spans.edges if edge % SLOTS)
        self._visitors = 0
        self._layouts: dict[tuple[int, ...], list[int]] = {}
        if spans.interval is not Interval.HOUR:
            for day in spans.period.whole_days:
                self.points[self._number_at(_noon(day))].visitors = 0

    @property
    def total(self) -> Counts:
        """The counts of the whole period."""
        return Counts(
            sum(point.clicks for point in self.points),
            sum(point.visits for point in self.points),
            self._visitors if self.spans.period.whole_days else None,
        )

    async def add(self, rows: Iterable[DayRow]) -> None:
        """Add rows, of which those of one day follow each other; lets other tasks run in between."""
        turn = Turn()
        for day, of_day in groupby(rows, attrgetter("day")):
            sketches = []
            for row in of_day:
                self._add_clicks(row)
                if row.visitors:
                    sketches.append(row.visitors)
            self._add_visitors(day, sketches)
            if turn.over:
                await turn.give_way()

    def _add_clicks(self, row: DayRow) -> None:
        first = row.day * SLOTS
        number = self._number_at(first)
        if row.series is None:
            self._add_to(number, row.clicks, row.visits)
            return
        rollup = DayRollup.decode(row.clicks, row.visits, row.series, None, None)
        layout = self._layout(first, number)
        clicks, visits = [0] * (layout[-1] + 1), [0] * (layout[-1] + 1)
        for slot, (more_clicks, more_visits) in rollup.series.items():
            part = layout[slot]
            clicks[part] += more_clicks
            visits[part] += more_visits
        for part, counts in enumerate(zip(clicks, visits, strict=True)):
            self._add_to(number + part, *counts)

    def _layout(self, first: int, number: int) -> list[int]:
        """Return for each slot of the day how many intervals begin in the day up to it.

        Most days of a year have the same layout.
        """
        edges = self.spans.edges
        until = bisect_left(edges, first + SLOTS)
        cuts = tuple(edge - first for edge in edges[number + 1 : until])
        if cuts not in self._layouts:
            self._layouts[cuts] = [bisect_right(cuts, slot) for slot in range(SLOTS)]
        return self._layouts[cuts]

    def _add_to(self, number: int, clicks: int, visits: int) -> None:
        if 0 <= number < len(self.points):  # the others are outside of the period
            self.points[number].clicks += clicks
            self.points[number].visits += visits

    def _add_visitors(self, day: int, sketches: list[bytes]) -> None:
        if sketches and day in self.spans.period.whole_days:
            visitors = unique_visitors(sketches)
            self._visitors += visitors
            point = self.points[self._number_at(_noon(day))]
            if point.visitors is not None:
                point.visitors += visitors

    def _number_at(self, slot: int) -> int:
        """Return the number of the interval with `slot`; -1 before the period."""
        return bisect_right(self.spans.edges, slot) - 1


def _noon(day: int) -> int:
    return day * SLOTS + SLOTS // 2
