"""An ASGI application that sends one constant redirect."""

from typing import Any

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
