"""A list that PostgreSQL cannot read in time."""

import pytest

from shortcore.errors import DatabaseUnavailable

_RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
    " AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
)


async def test_a_list_that_takes_too_long_is_cancelled_in_postgresql_and_says_so(opened, settings):
    async with opened(settings.model_copy(update={"postgres_write_timeout_ms": 5000})) as api:
        with pytest.raises(DatabaseUnavailable, match="narrow it"):
            await api.container.reads.read(lambda reading: reading.fetchval("SELECT pg_sleep(60)"))
        assert await api.fetch(_RUNNING) == 0
