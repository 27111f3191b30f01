"""Statistics as CSV (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence

from writer.stats.schemas import BreakdownView, Point, StatsView, TopLinksView

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def stats_csv(view: StatsView) -> str:
    """Return the series, one interval a row, and after it that of the period before."""

    def rows(period: str, series: list[Point]) -> Iterable[Sequence[object]]:
        for point in series:
            yield period, point.at.isoformat(), point.clicks, point.visits, point.visitors

    lines = [*rows("current", view.series)]
    if view.previous is not None:
        lines += rows("previous", view.previous.series)
    return _csv(("period", "at", "clicks", "visits", "visitors"), lines)


def breakdown_csv(view: BreakdownView) -> str:
    """Return one value a row."""
    rows = ((each.value, each.clicks, each.visits, each.share) for each in view.items)
    return _csv((view.dimension, "clicks", "visits", "share"), rows)


def top_links_csv(view: TopLinksView) -> str:
    """Return one link a row."""
    rows = (
        (each.short_url, each.domain, each.code, each.title, each.clicks, each.visits)
        for each in view.items
    )
    return _csv(("short_url", "domain", "code", "title", "clicks", "visits"), rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: object) -> object:
    # A spreadsheet would run it as a formula: anybody can send a referrer or a UTM value.
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
