"""Counts the clicks of one stream, from the stored position on, until it is told to stop.

The position, the marks and the rollups in memory are valid only as long as this worker alone counts the
stream. After every failed commit, and when another worker has changed the position, they are dropped and
read again.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import asyncpg
import structlog

from shortcore.cache.change_feed import START, entry_order
from shortcore.clicks.rollups import CorruptRollup, DayRollup
from shortcore.errors import CacheUnavailable, DatabaseUnavailable, Unavailable
from shortcore.runtime.stopping import Stopping
from shortcore.runtime.turns import Turn
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.postgres import Connection, Postgres
from writer.worker import repository, retention
from writer.worker.counts import Counts
from writer.worker.repository import PositionChanged, RollupKey, StoredRollup, StreamState
from writer.worker.stream_reader import Entry, StreamReader
from writer.worker.subjects import SubjectCache
from writer.worker.window import MAX_REJECTED, Window, counted, entry_time, group, roll_up

log = structlog.stdlib.get_logger(__name__)

IDLE_MS = 1000
"""Maximum time that a read waits for clicks; then the end of the stream is checked."""

GATHER_S = 0.05
"""Pause after a read that emptied the stream, so that many small entries are read at once."""

CHUNK = 1000
"""Maximum rollups in one statement: PostgreSQL and the event loop need a few milliseconds for it."""

MAX_ENTRIES = 5000
"""Maximum entries of a window; most of them have few clicks or none."""

_Item = TypeVar("_Item")

UNCOUNTABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Errors of PostgreSQL that come back with every attempt, because of what is in an entry."""


@dataclass(slots=True)
class _Memory:
    """What is known about the stream since the last load or commit."""

    stored: StreamState
    server: str
    position: str
    """The last entry that was read; differs from the stored position while there is a window."""

    entries_read: int
    """Entries up to `position` since the stream began; Redis computes the lag of the group from it."""

    first_read_until: str
    window: Window
    window_since: float = 0.0


class StreamCounter:
    """Counts one stream. `share` is the number of streams that this worker counts."""

    def __init__(
        self,
        stream: int,
        reader: StreamReader,
        postgres: Postgres,
        counts: Counts,
        stopping: Stopping,
        settings: WorkerSettings,
        now_ms: Callable[[], int],
    ) -> None:
        self.stream = stream
        self.share = 1
        self._reader = reader
        self._postgres = postgres
        self._counts = counts
        self._stopping = stopping
        self._settings = settings
        self._now_ms = now_ms
        self._released = False
        self._memory: _Memory | None = None
        self._rollups: dict[RollupKey, DayRollup] = {}
        self._max_links = settings.worker_cached_links // settings.clicks_partitions
        self._subjects = SubjectCache(self._max_links)
        self._months: set[tuple[int, int]] = set()
        self._max_entries = MAX_ENTRIES
        self._uncountable: dict[str, str] = {}
        counts.waiting_since_ms[stream] = 0

    async def run(self) -> None:
        """Count until `release` is called or the worker stops; then write what was read."""
        while not (self._released or self._stopping):
            await self._stopping.retry(self._step)
        try:
            await self._commit_window()
        except (Unavailable, asyncpg.PostgresError, PositionChanged) as error:
            # Nothing is lost: the stream keeps the entries for the next worker.
            log.warning("last clicks were not written", stream=self.stream, reason=str(error))
        self._counts.waiting_since_ms.pop(self.stream, None)

    def release(self) -> None:
        """End `run` soon, because another worker is to count the stream."""
        self._released = True

    async def _step(self) -> None:
        if self._memory is None:
            self._memory = await self._load()
        if self._due(self._memory):
            await self._commit_window()
        else:
            await self._read(self._memory)

    async def _load(self) -> _Memory:
        try:
            async with self._connection() as connection:
                stored = await repository.read_state(connection, self.stream)
        except PositionChanged:
            raise DatabaseUnavailable("the stream has no row yet") from None
        server = await self._reader.servers()
        await self._reader.create_group()
        end = await self._reader.end()
        first_read = stored.server == "" and stored.position == START
        # Another server may have other entries before the position. The marks skip what was counted.
        fits = stored.server == server and entry_order(end.last_id) >= entry_order(stored.position)
        position = stored.position if fits else START
        entries_read = await self._reader.entries_read(position, end)
        if not fits and not first_read:
            log.warning("another Redis: reading the stream from its start", stream=self.stream)
        return _Memory(
            stored,
            server,
            position,
            entries_read,
            first_read_until=end.last_id if first_read else START,
            window=Window(stored.marks),
        )

    def _due(self, memory: _Memory) -> bool:
        window = memory.window
        if not window.entries:
            return False
        return (
            len(window.clicks) >= max(1, self._settings.worker_batch_clicks // self.share)
            or window.entries >= self._max_entries
            or len(window.rejected) >= MAX_REJECTED
            or time.monotonic() - memory.window_since >= self._settings.worker_flush_ms / 1000
        )

    async def _read(self, memory: _Memory) -> None:
        window = memory.window
        wait_ms = IDLE_MS
        if window.entries:
            due = memory.window_since + self._settings.worker_flush_ms / 1000
            wait_ms = min(wait_ms, max(1, round((due - time.monotonic()) * 1000)))
        room = self._max_entries - window.entries
        entries = await self._reader.read(memory.position, wait_ms, room)
        # The server is compared after the read: if it is the one of the load, it was so in between.
        server = await self._reader.servers()
        if server != memory.server or (not entries and await self._is_another(memory)):
            await self._commit_window()
            self._forget()
            return
        if not entries:
            if not window.entries:
                self._counts.waiting_since_ms[self.stream] = 0
            return
        if not window.entries:
            memory.window_since = time.monotonic()
            self._counts.waiting_since_ms[self.stream] = entries[0].at_ms
        await self._add(memory, entries)
        if self._reader.at_end and not self._due(memory):
            await self._stopping.pause(GATHER_S)

    async def _is_another(self, memory: _Memory) -> bool:
        """Return whether the stream ends before the position: it was deleted or is an older copy."""
        end = await self._reader.end()
        if end.last_id == memory.stored.position and end.added != memory.entries_read:
            # Entries were trimmed before they were read. The lag must not include them for ever: an
            # autoscaler would wait for it to become 0.
            memory.entries_read = end.added
            await self._tidy(memory)
        return entry_order(end.last_id) < entry_order(memory.position)

    async def _add(self, memory: _Memory, entries: Iterable[Entry]) -> None:
        turn = Turn()
        window, now_ms = memory.window, self._now_ms()
        first_read_until = entry_order(memory.first_read_until)
        for entry in entries:
            clicks = window.accept(
                entry,
                first_read=entry_order(entry.id) <= first_read_until,
                refused=self._uncountable.get(entry.id, ""),
            )
            entry_ms = entry_time(entry, now_ms)
            for click in clicks:
                window.clicks.append(counted(click, entry_ms))
                if turn.over:  # an unknown user agent takes a while
                    await turn.give_way()
            memory.position = entry.id
            memory.entries_read += 1

    async def _commit_window(self) -> None:
        memory = self._memory
        if memory is None or memory.window.last is None:
            return
        try:
            await self._commit(memory, memory.window)
        except PositionChanged:
            self._counts.overtaken += 1
            self._forget()
            log.info("another worker has counted the stream; reading again", stream=self.stream)
            return
        except BaseException as error:
            self._forget()
            self._narrow(memory.window, error)
            if not is_uncountable(error):
                raise
            self._stopping.errors["postgres"] += 1
            log.warning("clicks refused", stream=self.stream, reason=str(error))
            return
        self._committed(memory)
        await self._tidy(memory)

    async def _commit(self, memory: _Memory, window: Window) -> None:
        # Every use of a connection has its own deadline: computing in between may take long if other
        # streams compute, too.
        async with self._connection() as connection:
            await self._subjects.load(
                connection,
                {click[0] for click in window.clicks},
                {click[6] for click in window.clicks if click[6]},
            )
        grouped = await group(window.clicks, self._subjects.of)
        async with self._connection() as connection:
            await self._ensure_partitions(connection, {key.day for key in grouped.keys})
            stored = await self._read_missing(connection, grouped.keys)

        def take(key: RollupKey) -> DayRollup:
            rollup = self._rollups.pop(key, None)
            if rollup is None:
                columns = stored.get(key)
                return DayRollup() if columns is None else self._decoded(key, columns)
            return rollup

        rollups = await roll_up(grouped, take, self._settings.stats_values_per_day)
        rows = await _encoded(rollups)
        # After a change of `clicks_partitions`, two streams have the same links: no deadlock.
        totals = sorted(grouped.totals.items())
        async with self._connection() as connection, connection.transaction():
            await repository.advance(
                connection, self.stream, memory.stored, memory.position, memory.server
            )
            if window.marks:
                await repository.save_marks(connection, self.stream, window.marks)
            for some in _chunks(rows):
                await repository.save_rollups(connection, self.stream, some)
            for some_totals in _chunks(totals):
                await repository.add_to_link_totals(connection, some_totals)
            if window.rejected:
                await repository.save_rejected(connection, self.stream, window.rejected)
        self._rollups |= rollups  # after the others, as they are in use

    def _connection(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self._postgres.connection(self._settings.worker_postgres_timeout_ms)

    async def _ensure_partitions(self, connection: Connection, days: set[date]) -> None:
        months = {(day.year, day.month) for day in days}
        if not months <= self._months:
            await retention.ensure_partitions(connection, min(days), max(days))
            self._months |= months

    async def _read_missing(
        self, connection: Connection, rollups: Iterable[RollupKey]
    ) -> dict[RollupKey, StoredRollup]:
        """Return the stored rollups of those that are not in memory."""
        missing: dict[tuple[int, date], list[int]] = defaultdict(list)
        for key in rollups:
            if key not in self._rollups:
                missing[key.kind, key.day].append(key.subject)
        stored: dict[RollupKey, StoredRollup] = {}
        for (kind, day), subjects in missing.items():
            for some in _chunks(subjects):
                stored |= await repository.read_rollups(connection, self.stream, kind, day, some)
        return stored

    def _decoded(self, key: RollupKey, columns: StoredRollup) -> DayRollup:
        try:
            return DayRollup.decode(*columns)
        except CorruptRollup as error:
            log.error("stored rollup is corrupt; keeping its totals", key=key, reason=str(error))  # noqa: TRY400  # the trace says nothing
            self._counts.rollups_replaced += 1
            return DayRollup.decode(columns.clicks, columns.visits, None, None, None)

    def _committed(self, memory: _Memory) -> None:
        window, counts = memory.window, self._counts
        counts.commits += 1
        counts.clicks += len(window.clicks)
        counts.rejected += len(window.rejected)
        counts.lost += window.lost
        counts.repeated += window.repeated
        if window.rejected:
            entry, reason, _ = window.rejected[0]
            number = len(window.rejected)
            log.warning(
                "entries rejected", stream=self.stream, number=number, first=entry, reason=reason
            )
            for rejected in window.rejected:
                self._uncountable.pop(rejected.entry, None)
        memory.stored = StreamState(
            memory.position, memory.server, memory.stored.marks | window.marks
        )
        memory.window = Window(memory.stored.marks)
        self._max_entries = min(2 * self._max_entries, MAX_ENTRIES)
        waits = 0 if self._reader.at_end else entry_order(memory.position)[0]
        counts.waiting_since_ms[self.stream] = waits
        surplus = len(self._rollups) - self._settings.worker_cached_rollups // self.share
        for key in list(self._rollups)[: max(0, surplus)]:
            del self._rollups[key]

    async def _tidy(self, memory: _Memory) -> None:
        keep_ms = self._settings.worker_stream_retention_s * 1000
        try:
            await self._reader.tidy(memory.stored.position, memory.entries_read, keep_ms)
        except CacheUnavailable as error:
            # The clicks are counted; the next commit trims what this one did not.
            self._stopping.errors["redis"] += 1
            log.warning("stream not trimmed", stream=self.stream, reason=error.detail)

    def _forget(self) -> None:
        self._memory = None
        self._rollups.clear()
        self._subjects = SubjectCache(self._max_links)  # ids of tags may have been rolled back

    def _narrow(self, window: Window, error: BaseException) -> None:
        """Commit fewer entries next time: the transaction took too long, or one entry is refused.

        An entry that PostgreSQL refuses is rejected as soon as it is alone in a window.
        """
        self._months.clear()  # the partition may have been dropped
        self._max_entries = max(1, window.entries // 2)
        if window.entries == 1 and window.last is not None and is_uncountable(error):
            self._uncountable[window.last.id] = f"PostgreSQL refuses it: {error}"


def is_uncountable(error: BaseException) -> bool:
    """Return whether every attempt to count the same entries fails with this error."""
    # asyncpg reports values that it cannot encode as an InterfaceError that is also a ValueError.
    return isinstance(error, UNCOUNTABLE) or isinstance(error.__cause__, ValueError)


async def _encoded(rollups: dict[RollupKey, DayRollup]) -> list[tuple[RollupKey, StoredRollup]]:
    """Return the rows to store."""
    rows = []
    turn = Turn()
    for key, rollup in rollups.items():
        rows.append((key, StoredRollup(rollup.clicks, rollup.visits, *rollup.encode())))
        if turn.over:
            await turn.give_way()
    return rows


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
