"""Creates the monthly partitions of clicks_daily."""

from datetime import date, timedelta

from shortcore.storage.postgres import Connection


async def ensure_partitions(connection: Connection, first_day: date, last_day: date) -> None:
    """Create the partitions of the months from `first_day` to `last_day`."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7283)")
        await _create(connection, first_day, last_day)


async def _create(connection: Connection, first_day: date, last_day: date) -> None:
    month = first_day.replace(day=1)
    while month <= last_day:
        after = (month + timedelta(days=32)).replace(day=1)
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS clicks_daily_{month:%Y_%m} PARTITION OF clicks_daily "
            f"FOR VALUES FROM ('{month}') TO ('{after}')"
        )
        month = after
