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

import msgspec
import structlog

from redirector.container import Redirector
from redirector.domains.cache import Domain
from redirector.domains.forwarded import MalformedError
from redirector.http.asgi import SAMPLE, header
from redirector.links.service import Request
from redirector.lookup.lookup import LinkEntry
from redirector.responses.responses import Plain, Response, status_line
from redirector.rules.paths import is_code
from shortcore.http.protocol import BoundedProtocol
from shortcore.http.stages import BETWEEN, BODY, HEAD
from shortcore.origins import ANY_ORIGIN
from shortcore.runtime.health import Phase

log = structlog.stdlib.get_logger(__name__)

_CLOSE = b"\r\nconnection: close"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\ndate: "
_END = b"\r\n\r\n"
_SHARED = 1024
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
    fast_path = redirector.fast_path
    domains = redirector.domains
    known = domains.known.get
    health = redirector.health
    observe = redirector.sampled.observe
    capture = redirector.click_capture.capture
    ask = redirector.lookup.ask
    entries = redirector.cache.entries
    fresh = redirector.fresh
    respond_slowly = redirector.service.response
    placed = redirector.service.placed
    client_addresses = redirector.client_addresses
    forwarded = redirector.forwarded
    unavailable = redirector.responses.unavailable
    values = redirector.counts.values
    made_of = Shared()
    ready = Phase.READY
    between, head, body = BETWEEN, HEAD, BODY
    seen = 0

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
            nonlocal seen
            self.heads += 1
            parser = self.parser
            method = parser.get_method()
            cycle = self.cycle
            if (
                (method == b"GET" or method == b"HEAD")  # noqa: PLR1714  # faster than a set
                and (cycle is None or cycle.response_complete)  # type: ignore[redundant-expr]  # None at first
                and not self.flow.write_paused
                and not self.head_bytes  # true if the head arrived in parts
                and health.phase is ready
                and parser.should_keep_alive()
                and (domain := self.domain()) is not None
            ):
                seen += 1
                started = 0.0 if seen % SAMPLE else perf_counter()
                key = domain.host + self.url.decode("latin-1")
                entry = fast_path(key)
                if entry is not None:
                    self.answered_here = True
                    self.stage = body
                    response = entry.response
                    date = self.server_state.default_headers[0][1]
                    write = self.write
                    if isinstance(response, Plain):
                        write(
                            response.head
                            + entry.record.target.encode()
                            + response.tail
                            + date
                            + _END
                        )
                        capture(entry.record, method, self.headers, self.client, 0)
                    elif response is not None:
                        made = made_of(response, date)
                        write(made.head if method == b"HEAD" else made.whole)
                    if started:
                        observe(perf_counter() - started)
                    return
                if self.url.startswith(b"/") and self.url.isascii() and b"#" not in self.url:
                    self.wait(domain, key, _Waiting(method, self.url, self.headers, started))
                    return
            self.into_asgi()

        def domain(self) -> Domain | None:
            """Return the domain of a request that needs no ASGI, or None.

            `framing.admit` has the rules. Returns None for a request that it would refuse or
            change.
            """
            host = None
            stays = True
            for name, value in self.headers:
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
            if host is None or not (stays or self.stays()):
                return None
            return known(host) or domains.of_field(host)

        def stays(self) -> bool:
            """Return whether a Connection field asks only for the default of HTTP/1.1."""
            parser = self.parser
            return not parser.should_upgrade() and parser.get_http_version() == "1.1"

        def wait(self, domain: Domain, key: str, waiting: "_Waiting") -> None:
            """Answer as soon as possible; requests that arrive meanwhile queue behind this one."""
            self.answered_here = True
            self.stage = body
            self.cycle = waiting  # type: ignore[assignment]  # it has all attributes that uvicorn reads
            path = key[len(domain.host) :]
            if (
                domain.host
                and is_code(path[1:])
                and not (domain.case_insensitive and domain.spelled(path) != path)
            ):
                if key in entries and fresh(key) is not None:  # type: ignore[arg-type]  # a link's key now
                    self.work(waiting)  # its response depends on the request or on the time
                else:
                    ask(key, partial(self.landed, waiting))  # type: ignore[arg-type]
            elif "?" not in path and (response := placed(path, domain)) is not None:
                self.send_shared(waiting, response)
            else:
                self.work(waiting)

        def landed(self, waiting: "_Waiting", entry: LinkEntry | None) -> None:
            """Send the result of a lookup; a link with rules needs a task."""
            response = unavailable if entry is None else entry.response
            if response is None:
                self.work(waiting)
                return
            values[response.slot] += 1
            if not isinstance(response, Plain):
                self.send_shared(waiting, response)
            elif entry is not None:  # always: «unavailable» is a complete response
                capture(entry.record, waiting.method, waiting.headers, self.client, 0)
                start = response.head + entry.record.target.encode() + response.tail
                self.send(waiting, start, b"")

        def work(self, waiting: "_Waiting") -> None:
            """Answer in a separate task."""
            task = self.loop.create_task(self.response(waiting))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

        async def response(self, waiting: "_Waiting") -> None:
            path, _, query = waiting.url.decode("ascii").partition("?")
            headers, peer = waiting.headers, self.client
            request = Request(
                waiting.method.decode("ascii"),
                path,
                query,
                header(headers, b"host"),
                client_addresses.address(
                    peer[0] if peer else None, header(headers, b"x-forwarded-for")
                ),
                headers,
                peer,
            )
            try:
                response = await respond_slowly(request)
            except Exception:  # as in uvicorn: an error must not affect other requests
                log.exception("a request failed", path=path)
                waiting.keep_alive = False
                self.send(waiting, _FAILED, b"")
            else:
                self.send(waiting, start_bytes(response), response.body)

        def send_shared(self, waiting: "_Waiting", response: Response) -> None:
            """Write a page that is the same for every request."""
            self.send(waiting, made_of(response, self.date()).start, response.body)

        def send(self, waiting: "_Waiting", start: bytes, body: bytes) -> None:
            """Write a response, and start the next request."""
            waiting.response_complete = True
            if waiting.disconnected or self.transport.is_closing():
                return
            date = self.date()
            closing = not waiting.keep_alive or health.phase is not ready
            end = _CLOSE + _END if closing and start is not _FAILED else _END
            self.write(start + date + end + (b"" if waiting.method == b"HEAD" else body))
            if waiting.started:
                observe(perf_counter() - waiting.started)
            if closing:
                self.transport.close()
            elif self.pipeline or self.refusal is not None:
                self.on_response_complete()

        def date(self) -> bytes:
            """Return the value of a Date header; uvicorn makes a new one each second."""
            return self.server_state.default_headers[0][1]

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


class Made(msgspec.Struct, gc=False):
    """The bytes of a shared page for the second in `date`; `head` ends with the blank line."""

    response: Response
    start: bytes
    date: bytes
    head: bytes
    whole: bytes


class Shared:
    """Caches the bytes of shared pages, which are made once for each page and second."""

    def __init__(self) -> None:
        self._known: dict[int, Made] = {}

    def __call__(self, response: Response, date: bytes) -> Made:
        """Return the bytes of `response` with this value of its Date header."""
        made = self._known.get(id(response))
        if made is not None and made.date is date:
            return made
        if len(self._known) >= _SHARED:  # pages of domains that have been edited
            self._known.clear()
        start = start_bytes(response) if made is None else made.start
        head = start + date + _END
        made = Made(response, start, date, head, head + response.body)
        self._known[id(response)] = made  # refers to the response, so its id stays unique
        return made


def start_bytes(response: Response) -> bytes:
    """Return the bytes of a response before the value of its Date header."""
    lines = [name + b": " + value + b"\r\n" for name, value in response.headers]
    return status_line(response.status) + b"".join(lines) + b"date: "


class _Waiting(msgspec.Struct, gc=False, eq=False):
    """A request that waits for its response, with the attributes that uvicorn uses.

    uvicorn sets `disconnected` when the client disconnects, and `keep_alive` to False when it shuts
    down.
    """

    method: bytes
    url: bytes
    headers: list[tuple[bytes, bytes]]
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
