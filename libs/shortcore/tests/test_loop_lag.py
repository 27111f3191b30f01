"""A held event loop is measured each time, and logged at most once in ten seconds."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from shortcore.runtime.loop_lag import LOG_INTERVAL_S, LoopLag
from shortcore.tasks import end_tasks

COUNT = "shortlinks_event_loop_lag_seconds_count"
SUM = "shortlinks_event_loop_lag_seconds_sum"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def test_a_task_that_holds_the_loop_is_measured_and_logged(registry):
    task = asyncio.create_task(LoopLag(registry, interval_s=0.01).watch())
    await asyncio.sleep(0.05)
    calm = registry.get_sample_value(SUM)
    with capture_logs() as logs:
        time.sleep(0.6)  # noqa: ASYNC251  # holds the loop
        while registry.get_sample_value(SUM) < calm + 0.55:  # noqa: ASYNC110  # a metric has no event
            await asyncio.sleep(0.01)
    await end_tasks([task])
    assert [each["event"] for each in logs] == ["event loop held"]
    assert logs[0]["lag_s"] > 0.55


async def test_a_small_lag_is_measured_and_not_logged(registry):
    lag = LoopLag(registry, interval_s=0.01)
    with capture_logs() as logs:
        task = asyncio.create_task(lag.watch())
        while (registry.get_sample_value(COUNT) or 0) < 5:  # noqa: ASYNC110  # a metric has no event
            await asyncio.sleep(0.01)
        await end_tasks([task])
    assert logs == []


def test_a_loop_that_is_held_repeatedly_logs_one_line_in_ten_seconds(registry):
    lag = LoopLag(registry)
    with capture_logs() as logs:
        for tenth in range(int(LOG_INTERVAL_S * 20)):
            lag.observe(0.7, tenth / 10)
    assert [each["unlogged"] for each in logs] == [0, 99]
    assert registry.get_sample_value(COUNT) == LOG_INTERVAL_S * 20
