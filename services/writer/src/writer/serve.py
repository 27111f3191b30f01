"""`shortlinks-writer serve`: from settings to an orderly end."""

import asyncio
import time

import structlog

from shortcore.errors import ConfigurationError, DatabaseUnavailable
from shortcore.http import connections
from shortcore.runtime import drain
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.health import Health
from shortcore.runtime.loop_lag import LoopLag
from shortcore.settings import WriterSettings, redact_url
from shortcore.storage.schema import check_schema
from writer.app.application import create_app
from writer.container import Container, open_container

log = structlog.stdlib.get_logger(__name__)

WAIT_FOR_POSTGRES_S = 10.0
_ASK_EVERY_S = 0.25


async def serve(settings: WriterSettings) -> None:
    """Serve the API until a signal comes.

    Raises ConfigurationError when a port is taken, PostgreSQL does not come up, or its schema
    does not fit. Redis may be away.
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
            admin_server = drain.UvicornServer(
                admin,
                settings.writer_host,
                settings.writer_admin_port,
                connections=admin_connections,
            )
            public_server = drain.UvicornServer(
                drain.closing(create_app(container), health),
                settings.writer_host,
                settings.writer_port,
                connections=public_connections,
                proxy_headers=False,  # nothing here asks who the peer is
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
    """Wait for PostgreSQL to come up, as both may be starting, check its schema, and start.

    Raises ConfigurationError if it does not answer within WAIT_FOR_POSTGRES_S.
    """
    deadline = time.monotonic() + WAIT_FOR_POSTGRES_S
    while True:
        try:
            async with container.postgres.connection() as connection:
                await check_schema(connection)
            await container.start()
        except DatabaseUnavailable as error:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{shown_url}: {error.detail}") from error
            await asyncio.sleep(_ASK_EVERY_S)
        else:
            return
