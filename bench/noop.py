"""An ASGI application that sends one constant redirect, on uvicorn with the redirector's options."""

import sys
from typing import Any

import uvicorn

START = {
    "type": "http.response.start",
    "status": 302,
    "headers": [
        (b"location", b"https://example.com/articles/12345?from=bench"),
        (b"cache-control", b"private, max-age=0"),
        (b"content-length", b"0"),
    ],
}
BODY = {"type": "http.response.body", "body": b""}


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    uvicorn.run(
        app,
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
