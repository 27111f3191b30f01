"""Clicks of a test, and their rollups in PostgreSQL as a worker writes them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import asyncpg

from shortcore.clicks.rollups import DIMENSIONS, SLOT_MS, SLOTS, DayRollup, Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSERT = "INSERT INTO clicks_daily VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"


@dataclass(frozen=True)
class Click:
    at: datetime
    visit: bool = True
    visitor: int = 0
    """0 is an unknown visitor."""

    stream: int = 0
    values: dict[str, str] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        return (self.at - _EPOCH) // timedelta(milliseconds=SLOT_MS)

    @property
    def day(self) -> int:
        return self.slot // SLOTS


def rollups(clicks: Iterable[Click]) -> dict[tuple[int, int], DayRollup]:
    """Return the rollup of each UTC day (as a number since 1970) and click stream."""
    made: dict[tuple[int, int], DayRollup] = defaultdict(DayRollup)
    for click in clicks:
        made[click.day, click.stream].add(
            click.slot % SLOTS,
            [click.values.get(name, "") for name in DIMENSIONS],
            visit=click.visit,
            visitor=click.visitor.to_bytes(8, "big") if click.visitor else b"",
        )
    return made


async def store_clicks(
    connection: asyncpg.Connection, kind: Kind, subject: int, clicks: Iterable[Click]
) -> None:
    """Write the rollups of `clicks`; no rows of these days may exist for the subject."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS clicks_daily_of_tests PARTITION OF clicks_daily DEFAULT"
    )
    await connection.executemany(
        _INSERT,
        [
            (
                *(kind, subject, date(1970, 1, 1) + timedelta(days=day), stream),
                *(rollup.clicks, rollup.visits, *rollup.encode()),
            )
            for (day, stream), rollup in rollups(clicks).items()
        ],
    )
