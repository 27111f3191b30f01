"""Runs the process of a worker: starts it from its settings, and shuts it down gracefully."""

from functools import partial

from shortcore.clicks.visitor_sketch import load_library
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.redis import open_redis
from shortcore.storage.redis_calls import RedisCalls
from shortcore.storage.wiring import make_breaker, open_primary
from writer import background_process
from writer.worker import metrics
from writer.worker.worker import APPLICATION, Worker

OTHER_CALLS = 8
"""Connections to Redis besides those that wait for the next clicks of a stream."""


async def run(settings: WorkerSettings) -> None:
    """Run a worker until SIGTERM. Raises ConfigurationError if the schema does not fit."""
    timeout_ms = settings.worker_redis_timeout_ms
    client = open_redis(
        settings.redis_url.get_secret_value(),
        timeout_ms=timeout_ms,
        pool_size=settings.clicks_partitions + OTHER_CALLS,
        application=APPLICATION,
    )
    redis = RedisCalls(make_breaker(settings), timeout_ms)
    postgres = await open_primary(settings, make_breaker(settings), APPLICATION)
    worker = Worker(postgres, client, redis, settings)
    load_library()  # it takes a second, for which no probe should wait later
    await background_process.run(
        "worker",
        settings,
        settings.worker_admin_port,
        postgres=postgres,
        check_redis=redis.check,
        background=worker.background,
        export=partial(metrics.export, worker),
        start=worker.start,
        flush=[worker.stop, postgres.close, client.aclose],
    )
