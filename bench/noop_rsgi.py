"""An RSGI application that does nothing, on Granian embedded in our own loop."""

import logging
import sys
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from bench.noop import HEADERS


async def app(_scope: Any, protocol: Any) -> None:
    protocol.response_empty(302, HEADERS)


async def main(port: int) -> None:
    logging.disable()
    server = Server(
        app,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.RSGI,
        backlog=4096,
        websockets=False,
        log_access=False,
    )
    await server.serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
