"""The redirector as an ASGI 3 application (HTTP only)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from redirector.container import Redirector
from redirector.links.service import Request
from redirector.lookup.lookup import LinkEntry
from redirector.responses.responses import Plain, Response
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
    """Return the application: a closure, which avoids attribute lookups on each request."""
    fast_path = redirector.fast_path
    domains = redirector.domains
    health = redirector.health
    observe = redirector.sampled.observe
    respond_slowly = redirector.service.response
    client_addresses = redirector.client_addresses
    capture = redirector.click_capture.capture
    whole = redirector.responses.of_entry
    unavailable = redirector.responses.unavailable
    draining = Phase.DRAINING
    seen = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        seen += 1
        started = 0.0 if seen % SAMPLE else perf_counter()
        method = scope["method"]
        entry: LinkEntry | None = None
        domain = domains.of_header(header(scope["headers"], b"host"))
        if (method == "GET" or method == "HEAD") and not scope["query_string"]:  # noqa: PLR1714  # twice as fast as a set
            entry = fast_path(domain.host + scope["raw_path"].decode("latin-1"))
        if entry is None:
            response = await slow(scope, receive)
        else:
            response = whole(entry)
            if isinstance(entry.response, Plain):
                capture(entry.record, method, scope["headers"], scope.get("client"), 0)
        headers = response.headers
        if health.phase is draining:
            headers = [*headers, _CLOSE]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = response.body
        await send({"type": "http.response.body", "body": body} if body else _EMPTY)
        if started:
            observe(perf_counter() - started)

    async def slow(scope: Scope, receive: Receive) -> Response:
        peer = scope.get("client")
        request = Request(
            scope["method"],
            scope["raw_path"].decode("utf-8", "surrogateescape"),
            scope["query_string"].decode("utf-8", "surrogateescape"),
            header(scope["headers"], b"host"),
            client_addresses.address(
                peer[0] if peer else None, header(scope["headers"], b"x-forwarded-for")
            ),
            scope["headers"],
            peer,
        )
        if request.method in {"GET", "HEAD"}:
            return await respond_slowly(request)
        body = Body(receive)
        response = await unless_gone(respond_slowly(request, body.chunks()), body)
        return response or unavailable  # the server sends nothing to a client that is gone

    return app


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Return the value of a header; several fields of one name are one list (RFC 9110, 5.3)."""
    values = [value for key, value in headers if key.lower() == name]
    return b",".join(values).decode("latin-1")


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


async def unless_gone(answering: Coroutine[Any, Any, Response], body: Body) -> Response | None:
    """Return the response, or None if the client disconnects: its password is then not checked."""
    response = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(body.gone())
    try:
        await asyncio.wait((response, gone), return_when=asyncio.FIRST_COMPLETED)
        return await response if response.done() else None
    finally:
        response.cancel()
        gone.cancel()
