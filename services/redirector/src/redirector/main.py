"""The command `shortlinks-redirector`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from redirector.container import Redirector, open_redirector
from redirector.http import asgi, cors, fast_protocol
from shortcore.errors import ConfigurationError, TaskFailed
from shortcore.http import connections
from shortcore.http.connections import Connections
from shortcore.http.joined_writes import JoinedProtocol
from shortcore.runtime import drain, logging
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.gc_tuning import collect_seldom
from shortcore.runtime.loop_lag import LoopLag
from shortcore.runtime.server import Server, UvicornServer
from shortcore.settings.loader import load
from shortcore.settings.redirector import RedirectorSettings


async def serve(settings: RedirectorSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises ConfigurationError, or OSError if a port is in use.
    """
    redirector = await open_redirector(settings)
    public, admin = connections.of_settings(settings, redirector.registry)
    collect_seldom()
    await drain.run(
        health=redirector.health,
        lag=LoopLag(redirector.registry),
        background=redirector.background,
        admin=UvicornServer(
            AdminApp(redirector.health, redirector.registry, "redirector"),
            settings.redirector_host,
            settings.redirector_admin_port,
            connections=admin,
            **_options(),
        ),
        public=_server(redirector, settings, public),
        drain_delay_ms=settings.drain_delay_ms,
        drain_timeout_ms=settings.drain_timeout_ms,
        start=[redirector.start],
        stopping=redirector.unlock.refuse_waiting,
        flush=[redirector.close],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (1 for a failed background task, 2 for wrong settings)."""
    parser = argparse.ArgumentParser(prog="shortlinks-redirector", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="answer short links until SIGTERM")
    parser.parse_args(arguments)
    try:
        settings = load(RedirectorSettings)
        logging.configure(settings.log_level, settings.log_format, "redirector")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except TaskFailed:
        return 1  # logged where it happened
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _server(
    redirector: Redirector, settings: RedirectorSettings, connections: Connections
) -> Server:
    direct_server = settings.redirector_server == "direct"
    application = asgi.application(redirector)
    if settings.redirector_cors_origins:
        application = cors.cross_origin(application, redirector)
    return UvicornServer(
        application,
        settings.redirector_host,
        settings.redirector_port,
        protocol=fast_protocol.direct_protocol(redirector) if direct_server else JoinedProtocol,
        connections=connections,
        backlog=4096,
        **_options(),
    )


def _options() -> dict[str, Any]:
    # Client addresses are our own matter (clients.py), and no other path is open to WebSockets.
    return {"interface": "asgi3", "proxy_headers": False}


if __name__ == "__main__":
    sys.exit(main())
