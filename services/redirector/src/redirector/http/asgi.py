"""The redirector as an ASGI 3 application (HTTP only)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from redirector.container import Redirector
from redirector.domains.forwarded import MalformedError
from redirector.links.handler import Later
from redirector.links.request import READING_METHODS
from redirector.responses.responses import Response
from redirector.rules.fields import field_value
from shortcore.runtime.health import Phase

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SAMPLE = 64
"""One of this number of responses is timed."""

_CLOSE = (b"connection", b"close")
_EMPTY: Message = {"type": "http.response.body", "body": b""}


def application(redirector: Redirector) -> Application:
    """Return the application."""
    handle = redirector.handle
    domains = redirector.domains
    forwarded = redirector.forwarded
    health = redirector.health
    observe = redirector.sampled.observe
    unavailable = redirector.responses.unavailable
    seen = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        seen += 1
        started = 0.0 if seen % SAMPLE else perf_counter()
        response = await respond(scope, receive)
        headers = response.headers
        if health.phase is Phase.DRAINING:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = response.body
        await send({"type": "http.response.body", "body": body} if body else _EMPTY)
        if started:
            observe(perf_counter() - started)

    async def respond(scope: Scope, receive: Receive) -> Response:
        method = scope["method"]
        peer = scope.get("client")
        try:
            headers = forwarded(list(scope["headers"]), peer)
        except MalformedError:
            headers, domain = scope["headers"], domains.malformed
        else:
            domain = domains.of_header(field_value(headers, b"host"))
        body = None if method in READING_METHODS else Body(receive)
        chunks = None if body is None else body.chunks()
        response = handle(method, target(scope), domain, headers, peer, chunks)
        if isinstance(response, Response):
            return response
        if body is None:
            return await response
        # The server sends nothing to a client that is gone.
        return await unless_gone(response, body) or unavailable

    return app


def target(scope: Scope) -> str:
    """Return the path and the query as sent."""
    query = scope["query_string"]
    sent: bytes = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    return sent.decode("utf-8", "surrogateescape")


class Body:
    """The body of a request, and the wait for the client's disconnect after it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks as they arrive."""
        more = True
        while more:
            message = await self._receive()
            yield bytes(message.get("body", b""))
            more = message.get("more_body", False)
        self._read.set()

    async def gone(self) -> None:
        """Wait until the client disconnects, which is noticed only after the body has been read."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def unless_gone(responding: Later, body: Body) -> Response | None:
    """Return the response, or None if the client disconnects: its password is then not checked."""
    response = asyncio.ensure_future(responding)
    gone = asyncio.ensure_future(body.gone())
    try:
        await asyncio.wait((response, gone), return_when=asyncio.FIRST_COMPLETED)
        return await response if response.done() else None
    finally:
        response.cancel()
        gone.cancel()
