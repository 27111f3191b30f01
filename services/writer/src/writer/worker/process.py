"""Runs the process of a worker: starts it from its settings, and shuts it down gracefully."""

from functools import partial

import structlog

from shortcore.clicks.visitor_sketch import load_library
from shortcore.errors import DatabaseUnavailable
from shortcore.http import connections
from shortcore.runtime import drain
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.metrics import FromMemory, new_registry
from shortcore.runtime.server import UvicornServer
from shortcore.settings.worker import WorkerSettings
from shortcore.storage.redis import open_redis
from shortcore.storage.redis_calls import RedisCalls
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema
from shortcore.storage.wiring import make_breaker, open_primary
from writer.worker import metrics
from writer.worker.worker import APPLICATION, Worker

log = structlog.stdlib.get_logger(__name__)

SCHEMA_WAIT = SchemaWait(retry_on=(DatabaseUnavailable,), interval_s=1)
"""A worker waits for PostgreSQL without a timeout. An older schema ends it with an explanation."""

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
    health = Health()
    health.add(postgres.check)
    health.add(redis.check)
    registry = new_registry()
    source = FromMemory()
    metrics.export(worker, source)
    registry.register(source)
    admin = UvicornServer(
        AdminApp(health, registry, "worker"),
        "0.0.0.0",  # noqa: S104  # a server in a container
        settings.worker_admin_port,
        connections=connections.of_admin_settings(settings, registry),
    )
    load_library()  # it takes a second, for which no probe should wait later
    collect_seldom()
    check = partial(check_schema_of, postgres)
    await drain.run(
        health=health,
        lag=LoopLag(registry),
        background=worker.background,
        admin=admin,
        public=None,
        drain_delay_ms=0,  # no load balancer sends requests here
        drain_timeout_ms=settings.drain_timeout_ms,
        start=[partial(wait_for_schema, check, SCHEMA_WAIT, _log_wait), worker.start],
        flush=[worker.stop, postgres.close, client.aclose],
    )


def _log_wait(error: Exception) -> None:
    log.warning("waiting for the database", reason=str(error))
