"""An ASGI application that does nothing, on uvicorn as the redirector runs it."""

import sys
from typing import Any

import uvicorn

from bench.noop import HEADERS

START = {
    "type": "http.response.start",
    "status": 302,
    "headers": [(name.encode(), value.encode()) for name, value in HEADERS],
}
BODY = {"type": "http.response.body", "body": b""}


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        http="httptools",
        loop="uvloop",
        ws="none",
        interface="asgi3",
        backlog=4096,
        timeout_keep_alive=75,
    )
