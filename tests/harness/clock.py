"""The one clock of the tests: time passes only when a test says so."""

from datetime import UTC, datetime, timedelta

START = datetime.fromtimestamp(1_800_000_000, UTC)


class Clock:
    """A monotonic clock (call it) and a wall clock (`now`, `now_ms`) that advance together.

    Pass `datetime.now(UTC)` as `now` where the database's own time is compared with it.
    """

    def __init__(self, now: datetime = START, *, seconds: float = 1_000.0) -> None:
        self.seconds = seconds
        self._start, self._started_at = now, self.seconds

    def __call__(self) -> float:
        """Return monotonic seconds."""
        return self.seconds

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return self._start + timedelta(seconds=self.seconds - self._started_at)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        passed = round((self.seconds - self._started_at) * 1000)
        return round(self._start.timestamp() * 1000) + passed

    def advance(self, seconds: float = 0.0, **more: float) -> None:
        """Let time pass: seconds, or any unit of `timedelta`."""
        self.seconds += seconds + timedelta(**more).total_seconds()

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until `moment`."""
        self.seconds += (moment - self.now()).total_seconds()
