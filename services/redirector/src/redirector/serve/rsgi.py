"""The redirector as an RSGI application, and Granian to serve it inside our own loop."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias
from urllib.parse import quote

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from redirector.app import Redirector
from redirector.redirects import Request
from redirector.respond import Answer, Plain
from redirector.serve.asgi import SAMPLE
from shortcore import drain
from shortcore.health import Phase

Application: TypeAlias = Callable[[Any, Any], Awaitable[None]]

_CLOSE = ("connection", "close")


def application(redirector: Redirector) -> Application:  # noqa: C901  # counts its inner functions
    """Return the application; a closure, as attribute look-ups on each request would show."""
    hot = redirector.hot
    domains = redirector.domains
    health = redirector.health
    observe = redirector.sampled.observe
    answer_slowly = redirector.redirects.answer
    answer_posted = redirector.redirects.answer_posted
    clients = redirector.clients
    capture = redirector.tracking.capture
    whole = redirector.answers.of_entry
    draining = Phase.DRAINING
    seen = 0

    async def app(scope: Any, protocol: Any) -> None:
        nonlocal seen
        if scope.proto != "http":
            protocol.close(403)
            return
        seen += 1
        started = 0.0 if seen % SAMPLE else perf_counter()
        method = scope.method
        entry = None
        if method == "GET" or method == "HEAD":  # noqa: PLR1714  # twice as fast as a set
            domain = domains.default if domains.single else domains.of_header(host(scope))
            entry = hot(domain.host + scope.path)
        if entry is None:
            answer = await slow(scope, protocol)
        else:
            answer = whole(entry)
            if isinstance(entry.answer, Plain):
                capture(entry.record, method, scope.headers, scope.client, 0)
        headers = answer.headers
        if health.phase is draining:
            headers = [*headers, _CLOSE]
        if answer.body and method != "HEAD":
            protocol.response_bytes(answer.status, headers, answer.body)
        else:
            protocol.response_empty(answer.status, headers)
        if started:
            observe(perf_counter() - started)

    async def slow(scope: Any, protocol: Any) -> Answer:
        request = Request(
            scope.method,
            # RSGI gives the path unescaped: an escaped slash cannot be told from a real one.
            quote(scope.path, safe="/~!$&'()*+,;=:@"),
            scope.query_string,
            host(scope),
            clients.address(
                scope.client.rpartition(":")[0].strip("[]"),
                # Several fields of one name are one list (RFC 9110, 5.3): the first alone is
                # what the client itself may have sent.
                ",".join(scope.headers.get_all("x-forwarded-for")),
            ),
            scope.headers,
            scope.client,
        )
        if request.method != "POST":
            return await answer_slowly(request)
        return await answer_posted(request, protocol)

    return app


def host(scope: Any) -> str:
    """Return what the request names as its host (in HTTP/2 a pseudo-header)."""
    return str(scope.authority or scope.headers.get("host", ""))


class GranianServer:
    """Granian with one worker in our own loop; its own signal handling stays out.

    Raises OSError when the port is taken (Granian itself would panic).
    """

    def __init__(self, app: Application, address: str, port: int) -> None:
        drain.bind(address, port).close()
        self._server = Server(
            app,
            address=address,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto,
            websockets=False,
            backlog=4096,
            log_enabled=False,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on; raises OSError when the port is taken."""
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.wrks:
            if self._task.done():
                await self._task
                raise OSError("the server ended while it started")
            await asyncio.sleep(0.005)

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting, finish what is in flight within `timeout_s`, then cut it off."""
        if self._task is None:
            return
        self._server.stop()
        await asyncio.wait({self._task}, timeout=timeout_s)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=1)
