"""Adds the rollups of days up to series: clicks, visits and visitors of each interval."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

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
        self.total = Counts()
        self.points = [Counts() for _ in spans.edges[1:]]
        # The clicks of other days are all in one interval, so their slots do not matter.
        self.divided_days = frozenset(edge // SLOTS for edge in spans.edges if edge % SLOTS)
        self._prepare_visitors()

    def _prepare_visitors(self) -> None:
        whole_days = self.spans.period.whole_days
        if whole_days:
            self.total.visitors = 0
        if self.spans.interval is not Interval.HOUR:
            for day in whole_days:
                self._point(day * SLOTS + SLOTS // 2).visitors = 0

    async def add(self, rows: Iterable[DayRow]) -> None:
        """Add rows, of which those of one day follow each other; lets other tasks run in between."""
        turn = Turn()
        day, sketches = -1, list[bytes]()
        for row in rows:
            if row.day != day:
                self._add_visitors(day, sketches)
                day, sketches = row.day, []
            if row.visitors:
                sketches.append(row.visitors)
            if row.series is None:
                self._add(row.day * SLOTS, row.clicks, row.visits)
            else:
                self._add_slots(row)
            if turn.over:
                await turn.give_way()
        self._add_visitors(day, sketches)

    def _add_slots(self, row: DayRow) -> None:
        first = row.day * SLOTS
        rollup = DayRollup.decode(row.clicks, row.visits, row.series, None, None)
        for slot, (clicks, visits) in rollup.series.items():
            self._add(first + slot, clicks, visits)

    def _add(self, slot: int, clicks: int, visits: int) -> None:
        if self.spans.period.start <= slot < self.spans.period.end:
            for counts in (self.total, self._point(slot)):
                counts.clicks += clicks
                counts.visits += visits

    def _add_visitors(self, day: int, sketches: list[bytes]) -> None:
        if sketches and day in self.spans.period.whole_days:
            visitors = unique_visitors(sketches)
            point = self._point(day * SLOTS + SLOTS // 2)
            for counts in (self.total, point):
                if counts.visitors is not None:
                    counts.visitors += visitors

    def _point(self, slot: int) -> Counts:
        return self.points[bisect_right(self.spans.edges, slot) - 1]
