"""The fast protocol: answers GET and HEAD inside uvicorn's HTTP protocol class, without ASGI.

A local hit is written to the socket in the parser's callback, as bytes that were made when the link
was cached: no task, no scope, no messages. After a miss, the lookup calls back. A page or a link
with rules gets a task. Meanwhile a `_Waiting` replaces uvicorn's object for the request that is
being answered. All other requests (POST, HTTP/1.0, requests that queue behind another one, requests
during the drain) go to the ASGI application through uvicorn. llhttp parses all requests, so that
both ways read them in the same way.
"""

import asyncio
from functools import partial
from time import perf_counter

import httptools
import msgspec
import structlog

from redirector.container import Redirector
from redirector.domains.cache import Domain
from redirector.domains.forwarded import MalformedError
from redirector.http.asgi import SAMPLE
from redirector.links.handler import Later
from redirector.links.pending import Pending, Work
from redirector.links.request import Headers
from redirector.responses.responses import Response, make_template
from shortcore.http.protocol import BoundedProtocol
from shortcore.http.stages import BETWEEN, BODY, HEAD
from shortcore.origins import ANY_ORIGIN
from shortcore.runtime.health import Phase

log = structlog.stdlib.get_logger(__name__)

_END = b"\r\n\r\n"
_CLOSE = b"\r\nconnection: close\r\n\r\n"
_FAILED = Response(make_template(500, [(b"content-length", b"0")], 0))
_READING = {b"GET": "GET", b"HEAD": "HEAD"}
_UNUSUAL = frozenset({b"authorization", b"transfer-encoding"})
_SIZES = frozenset(map(len, (b"host", b"connection", *_UNUSUAL)))
"""Lengths of the names of the fields that decide how a request is read."""
_USUAL = frozenset({b"User-Agent", b"user-agent", b"Cache-Control", b"cache-control",
                    b"X-Forwarded-Proto", b"x-forwarded-proto"})  # fmt: skip
"""Common fields of the same lengths, which need no second check."""


def direct_protocol(redirector: Redirector) -> type[BoundedProtocol]:  # noqa: C901  # counts a whole class
    """Return the protocol class to give to uvicorn as `http`.

    The function creates the class, because uvicorn creates the instances. The hot path uses
    variables of the closure, which are faster than attributes.
    """
    handle = redirector.handle
    domains = redirector.domains
    known = domains.known.get
    health = redirector.health
    observe = redirector.sampled.observe
    forwarded = redirector.forwarded
    ready = Phase.READY
    between, head, body = BETWEEN, HEAD, BODY
    reading = _READING.get
    unsampled = SAMPLE

    def domain_of(headers: Headers, parser: httptools.HttpRequestParser) -> Domain | None:
        """Return the domain of a request that needs no ASGI, or None.

        `framing.admit` has the rules. Returns None for a request that it would refuse or change.
        """
        host = None
        stays = True
        for name, value in headers:
            if len(name) in _SIZES and name not in _USUAL:
                lower = name.lower()
                if lower == b"host":
                    if host is not None:
                        return None
                    host = value
                elif lower == b"connection":
                    stays = False
                elif lower in _UNUSUAL:
                    return None
        if host is None or not (stays or _stays(parser)):
            return None
        return known(host) or domains.of_field(host)

    class DirectProtocol(BoundedProtocol):
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self.answered_here = False
            self.discarding: list[tuple[bytes, bytes]] | None = None
            self.write = transport.write

        # A request begins with its URL here. This saves a call of the parser, and no scope is
        # created unless ASGI is needed.
        on_message_begin = None  # type: ignore[assignment]  # httptools then makes no call

        def on_url(self, url: bytes) -> None:
            if self.stage == head:  # the rest of a head that arrived in parts
                self.url += url
                return
            self.stage = head
            self.head_bytes = 0
            self.url = url
            self.headers = []
            self.answered_here = False

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name, value))

        def on_headers_complete(self) -> None:
            nonlocal unsampled
            self.heads += 1
            parser = self.parser
            method = reading(parser.get_method())
            cycle = self.cycle
            try:
                target = self.url.decode("ascii")
            except UnicodeDecodeError:
                self.into_asgi()
                return
            if (
                method is not None
                and (cycle is None or cycle.response_complete)  # type: ignore[redundant-expr]  # None at first
                and not self.flow.write_paused
                and not self.head_bytes  # true if the head arrived in parts
                and health.phase is ready
                and parser.should_keep_alive()
                and "#" not in target
                and target[0] == "/"
                and (domain := domain_of(self.headers, parser)) is not None
            ):
                started = 0.0
                unsampled -= 1
                if not unsampled:
                    unsampled = SAMPLE
                    started = perf_counter()
                self.answered_here = True
                self.stage = body
                response = handle(method, target, domain, self.headers, self.client)
                if isinstance(response, Response):
                    template = response.template
                    parts = (
                        template.before,
                        response.location.encode(),
                        template.after,
                        self.server_state.default_headers[0][1],  # the Date, new each second
                        _END,
                        template.body if method == "GET" else b"",
                    )
                    write = self.write  # costs less than to call `self.write`
                    write(b"".join(parts))
                    if started:
                        observe(perf_counter() - started)
                else:
                    self.wait(response, _Waiting(method, target, started))
                return
            self.into_asgi()

        def wait(self, later: Later, waiting: "_Waiting") -> None:
            """Answer as soon as possible; requests that arrive meanwhile queue behind this one."""
            self.cycle = waiting  # type: ignore[assignment]  # it has all attributes that uvicorn reads
            if isinstance(later, Pending):
                later.then(self.send, waiting)
            else:
                self.send(waiting, later)

        def run(self, waiting: "_Waiting", work: Work) -> None:
            """Make a response in a task, and send it."""
            task = self.loop.create_task(work)
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)  # type: ignore[arg-type]  # uvicorn waits for any task
            task.add_done_callback(partial(self.ended, waiting))

        def ended(self, waiting: "_Waiting", task: asyncio.Task[Response]) -> None:
            """Send the response of a task."""
            if task.cancelled():
                self.send(waiting, _FAILED)
            elif (error := task.exception()) is not None:  # an error must not affect other requests
                log.error("request failed", target=waiting.target, exc_info=error)
                self.send(waiting, _FAILED)
            else:
                self.send(waiting, task.result())

        def send(self, waiting: "_Waiting", response: Response | Work) -> None:
            """Write a response, and start the next request; work makes a response first."""
            if not isinstance(response, Response):
                self.run(waiting, response)
                return
            waiting.response_complete = True
            if waiting.disconnected or self.transport.is_closing():
                return
            template = response.template
            closing = not waiting.keep_alive or health.phase is not ready or response is _FAILED
            parts = (
                template.before,
                response.location.encode(),
                template.after,
                self.server_state.default_headers[0][1],
                _CLOSE if closing else _END,
                template.body if waiting.method == "GET" else b"",
            )
            self.write(b"".join(parts))
            if waiting.started:
                observe(perf_counter() - waiting.started)
            if closing:
                self.transport.close()
            elif self.pipeline or self.refusal is not None:
                self.on_response_complete()

        def into_asgi(self) -> None:
            url, headers, head_bytes = self.url, self.headers, self.head_bytes
            BoundedProtocol.on_message_begin(self)
            self.url, self.head_bytes = url, head_bytes
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self.answered_here:
                self.head_bytes -= len(body)
                self.body_bytes += len(body)
                if self.discarding is not self.headers:  # the first part of this request's body
                    self.discarding = self.headers
                    self.discarded = 0
                self.drop(body)
            else:
                super().on_body(body)

        def on_message_complete(self) -> None:
            self.stage = between
            if not self.answered_here:
                super().on_message_complete()

    class ForwardedProtocol(DirectProtocol):
        """Takes the host from the header in which trusted proxies forward it."""

        def on_headers_complete(self) -> None:
            try:
                self.headers = forwarded(self.headers, self.client)
            except MalformedError:
                self.into_asgi()  # which refuses it
            else:
                super().on_headers_complete()

    class CrossOriginProtocol(DirectProtocol):
        """Passes requests with an Origin to ASGI, where `http.cors` answers them."""

        def on_headers_complete(self) -> None:
            if any(name.lower() == b"origin" for name, _ in self.headers):
                self.into_asgi()
            else:
                super().on_headers_complete()

    class BothProtocol(ForwardedProtocol, CrossOriginProtocol):
        """Does both."""

    origins = redirector.settings.redirector_cors_origins
    listed = bool(origins) and ANY_ORIGIN not in origins
    forwards = redirector.settings.forwarded_host_header != "none"
    return {
        (False, False): DirectProtocol,
        (False, True): CrossOriginProtocol,
        (True, False): ForwardedProtocol,
        (True, True): BothProtocol,
    }[forwards, listed]


def _stays(parser: httptools.HttpRequestParser) -> bool:
    """Return whether a Connection field asks only for the default of HTTP/1.1."""
    return not parser.should_upgrade() and parser.get_http_version() == "1.1"


class _Waiting(msgspec.Struct, gc=False, eq=False):
    """A request that waits for its response, with the attributes that uvicorn uses.

    uvicorn sets `disconnected` when the client disconnects, and `keep_alive` to False when it shuts
    down.
    """

    method: str
    target: str
    started: float
    keep_alive: bool = True
    disconnected: bool = False
    response_complete: bool = False

    @property
    def message_event(self) -> "_Waiting":
        """What uvicorn sets when the connection is lost, to wake who waits for a body: nobody."""
        return self

    @property
    def response_started(self) -> bool:
        """Whether anything was sent: all of it, or nothing."""
        return self.response_complete

    def set(self) -> None:
        """Wake nobody."""
