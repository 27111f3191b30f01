"""Runs the process of a relay: starts it from its settings, and shuts it down gracefully."""

from functools import partial

import structlog

from shortcore.cache.wiring import open_cache
from shortcore.errors import DatabaseUnavailable
from shortcore.http import connections
from shortcore.runtime import drain
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.metrics import FromMemory, new_registry
from shortcore.runtime.server import UvicornServer
from shortcore.settings.relay import RelaySettings
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema
from shortcore.storage.wiring import make_breaker, open_primary
from writer.relay import metrics
from writer.relay.relay import APPLICATION, Relay

log = structlog.stdlib.get_logger(__name__)

SCHEMA_WAIT = SchemaWait(retry_on=(DatabaseUnavailable,), interval_s=1)
"""A relay waits for PostgreSQL without a timeout. An older schema ends it with an explanation."""


async def run(settings: RelaySettings) -> None:
    """Run a relay until SIGTERM. Raises ConfigurationError if the schema does not fit."""
    postgres = await open_primary(settings, make_breaker(settings), APPLICATION)
    cache = open_cache(
        settings, make_breaker(settings), APPLICATION, timeout_ms=settings.relay_redis_timeout_ms
    )
    relay = Relay(postgres, cache.store, cache.feed, cache.client, settings)
    health = Health()
    health.add(postgres.check)
    health.add(cache.store.check)
    registry = new_registry()
    source = FromMemory()
    metrics.export(relay, source)
    registry.register(source)
    admin = UvicornServer(
        AdminApp(health, registry, "relay"),
        "0.0.0.0",  # noqa: S104  # a server in a container
        settings.relay_admin_port,
        connections=connections.of_admin_settings(settings, registry),
    )
    collect_seldom()
    check = partial(check_schema_of, postgres)
    await drain.run(
        health=health,
        lag=LoopLag(registry),
        background=relay.background,
        admin=admin,
        public=None,
        drain_delay_ms=0,  # no load balancer sends requests here
        drain_timeout_ms=settings.drain_timeout_ms,
        start=[partial(wait_for_schema, check, SCHEMA_WAIT, _log_wait), relay.start],
        flush=[relay.stop, postgres.close, cache.close],
    )


def _log_wait(error: Exception) -> None:
    log.warning("waiting for the database", reason=str(error))
