"""Adds the breakdowns of days up, and lists their values in order, page by page."""

import heapq
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from shortcore.clicks.rollups import OTHER, decode_dimension
from shortcore.runtime.turns import Turn
from writer.stats.repository import BreakdownRow

MAX_VALUES: Final = 20_000
"""Maximum number of different values in memory. Beyond it, the rarest are merged into OTHER."""

_KEPT_VALUES: Final = 15_000


class Value(msgspec.Struct, frozen=True):
    """A value of a dimension with its counts; the empty text stands for a missing value."""

    value: str
    clicks: int
    visits: int


Rank = tuple[int, int, str]
"""What orders values: the counts, the deciding one first, both negative, and the value."""


class Breakdown:
    """The counts of the values of one dimension, to which days are added in any order."""

    def __init__(self, dimension: str, by: str) -> None:
        self.clicks = 0
        self.visits = 0
        self.dimension = dimension
        self.by = by
        self._rank: Callable[[Value], Rank] = _by_clicks if by == "clicks" else _by_visits
        self._values: dict[str, list[int]] = {}

    async def add(self, rows: Iterable[BreakdownRow]) -> None:
        """Add rows; lets other tasks run in between."""
        turn = Turn()
        for row in rows:
            self.clicks += row.clicks
            self.visits += row.visits
            self._add(decode_dimension(row.breakdowns, self.dimension))
            if turn.over:
                await turn.give_way()

    def page(self, after: Rank | None, limit: int) -> list[Value]:
        """Return the first `limit` values after the rank `after`, by descending counts."""
        missing = [self.clicks, self.visits]
        for clicks, visits in self._values.values():
            missing[0] -= clicks
            missing[1] -= visits
        found = [Value(value, *counts) for value, counts in self._values.items()]
        if missing[0] > 0:
            found.append(Value("", *missing))
        if after is not None:
            found = [value for value in found if self._rank(value) > after]
        return heapq.nsmallest(limit, found, key=self._rank)

    def rank(self, value: Value) -> Rank:
        """Return what orders `value`."""
        return self._rank(value)

    def share(self, value: Value) -> float:
        """Return the share that `value` has of all clicks or visits, whichever decide the order."""
        part, whole = (
            (value.clicks, self.clicks) if self.by == "clicks" else (value.visits, self.visits)
        )
        return round(part / whole, 6) if whole else 0.0

    def _add(self, values: dict[str, list[int]]) -> None:
        mine = self._values
        for value, counts in values.items():
            known = mine.get(value)
            if known is None:
                mine[value] = counts
            else:
                known[0] += counts[0]
                known[1] += counts[1]
        if len(mine) > MAX_VALUES:
            self._merge_rare()

    def _merge_rare(self) -> None:
        other = self._values.pop(OTHER, [0, 0])
        found = sorted(
            (Value(value, *counts) for value, counts in self._values.items()), key=self._rank
        )
        for rare in found[_KEPT_VALUES:]:
            del self._values[rare.value]
            other[0] += rare.clicks
            other[1] += rare.visits
        self._values[OTHER] = other


def _by_visits(value: Value) -> Rank:
    return (-value.visits, -value.clicks, value.value)


def _by_clicks(value: Value) -> Rank:
    return (-value.clicks, -value.visits, value.value)
