"""Runs the process of the API: starts it from its settings, and shuts it down gracefully."""

import structlog

from shortcore.errors import ConfigurationError, DatabaseUnavailable
from shortcore.http import connections
from shortcore.runtime import drain
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.connection_close import close_while_draining
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.server import UvicornServer
from shortcore.settings.urls import redact_url
from shortcore.settings.writer import WriterSettings
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema
from writer.app.application import create_app
from writer.container import Container, open_container

log = structlog.stdlib.get_logger(__name__)

SCHEMA_WAIT = SchemaWait(retry_on=(DatabaseUnavailable,), interval_s=0.25, timeout_s=10)
"""PostgreSQL may be starting, too. An older schema ends the process with an explanation."""


async def run(settings: WriterSettings) -> None:
    """Serve the API until a signal arrives.

    Raises ConfigurationError if a port is in use, PostgreSQL does not answer, or its schema does
    not fit. Redis may be down.
    """
    async with open_container(settings) as container:
        health = Health()
        health.add(container.postgres.check)
        health.add(container.cache.check)
        if container.replica is not None:
            health.add(container.replica.check)
        admin = AdminApp(health, container.registry, "writer")
        public_connections, admin_connections = connections.of_settings(
            settings, container.registry
        )
        try:
            admin_server = UvicornServer(
                admin,
                settings.writer_host,
                settings.writer_admin_port,
                connections=admin_connections,
            )
            public_server = UvicornServer(
                close_while_draining(create_app(container), health),
                settings.writer_host,
                settings.writer_port,
                connections=public_connections,
                proxy_headers=False,  # the API does not use the client's address
            )
        except OSError as error:
            raise ConfigurationError(str(error)) from error
        await start_with_postgres(container, redact_url(settings.postgres_url.get_secret_value()))
        collect_seldom()
        await drain.run(
            health=health,
            lag=LoopLag(container.registry),
            background=container.background,
            admin=admin_server,
            public=public_server,
            drain_delay_ms=settings.drain_delay_ms,
            drain_timeout_ms=settings.drain_timeout_ms,
            flush=[container.flush],
        )


async def start_with_postgres(container: Container, shown_url: str) -> None:
    """Start the container once PostgreSQL answers and its schema fits.

    Raises ConfigurationError if it does not answer within the timeout of SCHEMA_WAIT.
    """

    async def start() -> None:
        await check_schema_of(container.postgres)
        await container.start()

    try:
        await wait_for_schema(start, SCHEMA_WAIT)
    except DatabaseUnavailable as error:
        raise ConfigurationError(f"{shown_url}: {error.detail}") from error
