"""Waiting for the schema: its policy decides which errors are retried, and for how long."""

import pytest

from shortcore.errors import ConfigurationError, DatabaseUnavailable, SchemaOlder
from shortcore.storage.schema_wait import SchemaWait, wait_for_schema

DOWN = DatabaseUnavailable("PostgreSQL is down.")
OLDER = SchemaOlder("The schema is older.")


def checks(*outcomes):
    """Return a check that has these outcomes one after another, and the number of its calls."""
    left, calls = list(outcomes), []

    async def check() -> None:
        calls.append(1)
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if outcome is not None:
            raise outcome

    return check, calls


async def test_a_listed_error_is_retried_and_reported_until_the_check_succeeds():
    check, calls = checks(DOWN, OLDER, DOWN, None)
    reported = []
    policy = SchemaWait(retry_on=(DatabaseUnavailable, SchemaOlder), interval_s=0.001)
    await wait_for_schema(check, policy, reported.append)
    assert reported == [DOWN, OLDER, DOWN]
    assert len(calls) == 4


async def test_any_other_error_is_raised_at_once():
    check, calls = checks(OLDER)
    with pytest.raises(SchemaOlder):
        await wait_for_schema(check, SchemaWait(retry_on=(DatabaseUnavailable,)))
    newer, _ = checks(ConfigurationError("The schema needs newer code."))
    with pytest.raises(ConfigurationError):
        await wait_for_schema(newer, SchemaWait(retry_on=(SchemaOlder,)))
    assert len(calls) == 1


async def test_the_last_error_is_raised_at_the_timeout():
    check, calls = checks(OLDER, DOWN)
    policy = SchemaWait(retry_on=(DatabaseUnavailable, SchemaOlder), interval_s=0.01, timeout_s=0.1)
    with pytest.raises(DatabaseUnavailable):
        await wait_for_schema(check, policy)
    assert len(calls) > 1
