"""A window: the clicks of one stream that were read since the last commit, and not written yet.

A window accepts an entry of the stream, or rejects it as a whole. `group` and `roll_up` add the clicks of
a window to rollups. Both are pure: they read nothing and write nothing.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TypeAlias

from shortcore.clicks.rollups import SLOT_MS, DayRollup, Kind
from shortcore.clicks.wire import Click, ClickBatch, CorruptBatch, Flag, decode_batch
from shortcore.runtime.turns import Turn
from writer.worker.agents import classify
from writer.worker.repository import LinkTotal, RejectedEntry, RollupKey
from writer.worker.stream_reader import Entry
from writer.worker.subjects import Subjects

DAY_MS = 86_400_000
MAX_BEFORE_MS = DAY_MS
MAX_AFTER_MS = 300_000
"""The time of a click is at most so much before or after the time at which Redis took the entry.

Clicks wait in a redirector while Redis is down. A wrong clock must not create partitions for the
year 2600.
"""

MAX_AGE_MS = 366 * DAY_MS
"""The same for the time of an entry, compared with the worker's clock: the clock of Redis may be wrong."""

MAX_REJECTED_DATA = 65_536
"""Bytes of a rejected entry that are kept."""

MAX_REJECTED = 100
"""Rejected entries after which a window is written, which bounds its memory."""

MANY = 16
"""From this number on, clicks are added up by columns."""

SLICE = 2000
"""Clicks added up at once, which takes a few milliseconds."""

LINK, ALL = int(Kind.LINK), int(Kind.ALL)
_NO_VISIT = int(Flag.BOT | Flag.HEAD | Flag.PREFETCH)


CountedClick: TypeAlias = tuple[int, int, int, bool, tuple[str, ...], bytes, str, int]
"""A click, ready to be added: its link, UTC day (since 1970), slot, whether it is a visit, values by
dimension, visitor, host, and time in Unix ms. A plain tuple, because a window has tens of thousands."""


class Window:
    """The clicks of the entries that were read, and what must be stored together with them.

    `stored_marks` are the numbers of the last counted batches, by source.
    """

    def __init__(self, stored_marks: Mapping[bytes, int]) -> None:
        self.clicks: list[CountedClick] = []
        self.marks: dict[bytes, int] = {}
        self.rejected: list[RejectedEntry] = []
        self.entries = 0
        self.lost = 0
        self.repeated = 0
        self.last: Entry | None = None
        self._stored_marks = stored_marks

    def accept(
        self, entry: Entry, *, first_read: bool = False, refused: str = ""
    ) -> Sequence[Click]:
        """Return the clicks to count of an entry: none if it is corrupt or was counted before.

        If `first_read`, a source whose first batch has a number above 1 has lost nothing: its older
        batches were trimmed before a worker read the stream for the first time. `refused` is the
        reason why an entry that can be read is rejected nevertheless.
        """
        self.last = entry
        self.entries += 1
        if entry.data is None:
            self._reject(entry, "the entry has no batch")
            return ()
        try:
            batch = decode_batch(entry.data)
        except CorruptBatch as error:
            self._reject(entry, str(error))
            return ()
        if not self._is_new(batch, first_read=first_read):
            return ()
        if refused:
            self._reject(entry, refused)
            return ()
        return batch.clicks

    def _reject(self, entry: Entry, reason: str) -> None:
        data = (entry.data or b"")[:MAX_REJECTED_DATA]
        self.rejected.append(RejectedEntry(entry.id, reason, data))

    def _is_new(self, batch: ClickBatch, *, first_read: bool) -> bool:
        mark = self.marks.get(batch.source)
        if mark is None:
            mark = self._stored_marks.get(batch.source)
        if mark is None:
            mark = batch.number - 1 if first_read else 0
        if batch.number <= mark:
            self.repeated += 1
            return False
        self.lost += batch.number - mark - 1
        self.marks[batch.source] = batch.number
        return True


def entry_time(entry: Entry, now_ms: int) -> int:
    """Return the time at which Redis took the entry, limited by the worker's clock."""
    return min(max(entry.at_ms, now_ms - MAX_AGE_MS), now_ms + DAY_MS)


def counted(click: Click, entry_ms: int) -> CountedClick:
    """Return a click ready to be added, with its time limited by that of its entry."""
    at_ms = min(max(click.at_ms, entry_ms - MAX_BEFORE_MS), entry_ms + MAX_AFTER_MS)
    flags = click.flags
    browser, os, device, bot = classify(click.agent, flags)
    values = (
        click.country, click.region, click.referrer, browser, os, device, click.language,
        click.source, click.medium, click.campaign, bot, click.rule,
    )  # fmt: skip
    return (
        click.link_id,
        at_ms // DAY_MS,
        at_ms % DAY_MS // SLOT_MS,
        not (flags & _NO_VISIT or bot),
        values,
        click.visitor,
        click.host,
        at_ms,
    )


@dataclass(frozen=True, slots=True)
class GroupedClicks:
    """The clicks of a window by link and day, and by the other subjects of their links and day.

    `keys` are those of all rollups that the clicks change, `totals` what they add to those of links.
    """

    links: dict[tuple[int, int], list[CountedClick]]
    subjects: dict[tuple[Subjects, int], list[CountedClick]]
    keys: list[RollupKey] = field(default_factory=list)
    totals: dict[int, LinkTotal] = field(default_factory=dict)


async def group(
    clicks: Sequence[CountedClick], subjects_of: Callable[[int, str], Subjects]
) -> GroupedClicks:
    """Group the clicks of a window, in turns of the event loop."""
    turn = Turn()
    grouped = GroupedClicks(defaultdict(list), defaultdict(list))
    links, subjects = grouped.links, grouped.subjects
    for start in range(0, len(clicks), SLICE):
        for click in clicks[start : start + SLICE]:
            link_id, day, _, _, _, _, host, _ = click
            links[link_id, day].append(click)
            subjects[subjects_of(link_id, host), day].append(click)
        if turn.over:
            await turn.give_way()
    for (link_id, day), some in links.items():
        grouped.keys.append(RollupKey(LINK, link_id, date_of(day)))
        visits = sum([click[3] for click in some])
        added = LinkTotal(len(some), visits, max([click[-1] for click in some]))
        other_day = grouped.totals.get(link_id)
        grouped.totals[link_id] = added if other_day is None else _add(other_day, added)
        if turn.over:
            await turn.give_way()
    others: set[RollupKey] = set()
    for of_link, day in subjects:
        others.update(_keys_of(of_link, day))
        if turn.over:
            await turn.give_way()
    grouped.keys.extend(others)
    return grouped


async def roll_up(
    grouped: GroupedClicks, stored: Callable[[RollupKey], DayRollup], max_values: int
) -> dict[RollupKey, DayRollup]:
    """Return the new rollups, which are the `stored` ones with the clicks added.

    It works in turns of the event loop. Clicks whose links have the same subjects are added up first,
    and then merged into each of these subjects, since most links share the domain, and many the owner.
    """
    turn = Turn()
    rollups: dict[RollupKey, DayRollup] = {}
    for (link_id, day), clicks in grouped.links.items():
        key = RollupKey(LINK, link_id, date_of(day))
        rollup = rollups[key] = stored(key)
        if len(clicks) < MANY:
            for _, _, slot, visit, values, visitor, _, _ in clicks:
                rollup.add(slot, values, visit=visit, visitor=visitor)
        else:
            await _add_by_columns(rollup, clicks, turn)
        rollup.limit(max_values)
        if turn.over:
            await turn.give_way()
    for (subjects, day), clicks in grouped.subjects.items():
        added = DayRollup()
        await _add_by_columns(added, clicks, turn)
        for key in _keys_of(subjects, day):
            if key not in rollups:
                rollups[key] = stored(key)
            rollups[key].merge(added, max_values=max_values)
            if turn.over:
                await turn.give_way()
    return rollups


async def _add_by_columns(rollup: DayRollup, clicks: Sequence[CountedClick], turn: Turn) -> None:
    for start in range(0, len(clicks), SLICE):
        _, _, slots, visits, values, visitors, _, _ = zip(
            *clicks[start : start + SLICE], strict=True
        )
        rollup.add_all(slots, values, visits, visitors)
        if turn.over:
            await turn.give_way()


def _keys_of(subjects: Subjects, day: int) -> list[RollupKey]:
    on = date_of(day)
    return [RollupKey(ALL, 0, on), *(RollupKey(kind, subject, on) for kind, subject in subjects)]


def _add(one: LinkTotal, other: LinkTotal) -> LinkTotal:
    return LinkTotal(
        one.clicks + other.clicks,
        one.visits + other.visits,
        max(one.last_click_ms, other.last_click_ms),
    )


@functools.lru_cache(maxsize=64)
def date_of(day: int) -> date:
    """Return the date of a day since 1970."""
    return datetime.fromtimestamp(day * 86_400, UTC).date()
