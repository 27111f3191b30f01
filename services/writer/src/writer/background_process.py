"""Runs a process that has only an admin port, from its start to its drain: a relay or a worker."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from shortcore.errors import DatabaseUnavailable
from shortcore.http import connections
from shortcore.runtime import drain
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.background import Background
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.metrics import FromMemory, new_registry
from shortcore.runtime.server import UvicornServer
from shortcore.settings.shared import ServiceSettings
from shortcore.storage.dependency import Dependency
from shortcore.storage.postgres import Postgres
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema

log = structlog.stdlib.get_logger(__name__)

SCHEMA_WAIT = SchemaWait(retry_on=(DatabaseUnavailable,), interval_s=1)
"""The process waits for PostgreSQL without a timeout. An older schema ends it with an explanation."""


async def run(
    name: str,
    settings: ServiceSettings,
    admin_port: int,
    *,
    postgres: Postgres,
    check_redis: Callable[[], Dependency],
    background: Background,
    export: Callable[[FromMemory], None],
    start: Callable[[], Awaitable[None]],
    flush: Sequence[Callable[[], Awaitable[None]]],
) -> None:
    """Run until SIGTERM; `start` is called once the schema of `postgres` fits, `flush` at the end.

    Raises ConfigurationError if the schema does not fit.
    """
    health = Health()
    health.add(postgres.check)
    health.add(check_redis)
    registry = new_registry()
    source = FromMemory()
    export(source)
    registry.register(source)
    admin = UvicornServer(
        AdminApp(health, registry, name),
        "0.0.0.0",  # noqa: S104  # a server in a container
        admin_port,
        connections=connections.of_admin_settings(settings, registry),
    )
    collect_seldom()
    check = partial(check_schema_of, postgres)
    await drain.run(
        health=health,
        lag=LoopLag(registry),
        background=background,
        admin=admin,
        public=None,
        drain_delay_ms=0,  # no load balancer sends requests here
        drain_timeout_ms=settings.drain_timeout_ms,
        start=[partial(wait_for_schema, check, SCHEMA_WAIT, _log_wait), start],
        flush=flush,
    )


def _log_wait(error: Exception) -> None:
    log.warning("waiting for the database", reason=str(error))
