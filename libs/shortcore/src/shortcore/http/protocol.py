"""uvicorn's HTTP/1.1 protocol with bounds on one connection, and with the rules of `framing`.

uvicorn parses every pipelined request that has arrived, and reads on after each answer: a client
that sends without reading fills the memory. So does a head, a chunk extension or a trailer without
an end. It also stops reading the body of a request with Upgrade, and takes that body for the next
request. Here such connections are cut, and such a request is read as if it had no Upgrade.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shortcore.http import framing
from shortcore.http.framing import Refused
from shortcore.http.incomplete import FIELD_BYTES
from shortcore.http.lingering import MAX_DISCARDED, Discard, Ended, LingeringTransport

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from shortcore.http.connections import Connections
    from shortcore.http.deadlines import Connection

log = structlog.stdlib.get_logger(__name__)

MAX_PIPELINED = 128
"""Requests of one connection that may wait behind the one being answered."""

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers.

The same number bounds the trailers together with the sizes and extensions of chunks, beyond those of
the read in which the body began.
"""

_CHUNK = 20
"""Bytes around a chunk that do not count: a size of 16 digits and two ends of line."""


BETWEEN, HEAD, BODY = range(3)
"""Where the parser stands: between two requests, in a head, or in a body and its trailers."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection; malformed requests are answered and not logged (anybody can send them).

    `admission` limits the connections, and ends those past a deadline; uvicorn's own timer of
    idle connections, which each answer would set and each request cancel, is not used.
    """

    def __init__(
        self, *arguments: Any, admission: "Connections | None" = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.admission = admission
        self.admitted: Connection | None = None
        self.running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        self.transport = self.lingering = LingeringTransport(transport, self, self.loop)
        self.heard = False
        self.heads = 0
        self.discarded = 0
        self.expected = 0
        self.held = 0
        self.held_fields = 0
        self.stage = BETWEEN
        self.head_bytes = 0
        self.body_bytes = 0
        self.ignoring_upgrade = False
        self.refusal: bytes | None = None
        self.url = b""
        if self.admission is not None:
            self.admitted = self.admission.admit(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self.admission is not None and self.admitted is not None:
            self.admission.release(self.admitted)
        self.lingering.lost()
        running = self.running
        if running is not None and not running.response_complete:
            # uvicorn marks the newest request only, and this one may have others queued behind it.
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)
        # Each of these holds this object too, and garbage of that kind is collected seldom.
        self.admitted = None
        self.running = None
        self.cycle = None  # type: ignore[assignment]  # None at first
        self.pipeline.clear()

    def resume_writing(self) -> None:
        """Let the application write again, as the client has read."""
        if self.admitted is not None:
            self.admitted.resumed()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self.heard = True
        try:
            if self.stage or len(data) > MAX_HEAD:
                self.feed_counted(memoryview(data))
                self.hold(len(data))
            else:
                self.parser.feed_data(data)
                if self.stage:
                    self.hold(len(data))  # type: ignore[unreachable]  # the parser changes the stage
        except httptools.HttpParserUpgrade as upgrade:
            self.feed_without_upgrade(memoryview(data)[upgrade.args[0] :])
            self.hold(len(data))
        except httptools.HttpParserError as error:
            self.fail(_reason(error))
        except Refused as reason:
            self.fail(reason)

    def feed_counted(self, data: memoryview) -> None:
        """Parse a read that begins within a request, or is longer than a head may be."""
        while data:
            piece, data = data[:MAX_HEAD], data[MAX_HEAD:]
            if self.stage:
                self.count(len(piece))
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                self.feed_without_upgrade(piece[upgrade.args[0] :])

    def hold(self, size: int) -> None:
        """Count a read of `size` bytes if the request that it ends in is not complete.

        The read may have begun with other requests: this one is then taken for larger than it is
        until it is complete.
        """
        if self.stage == BODY and self.expected != self.heads:
            self.expected = self.heads
            self.close_behind_expectation()
        if self.admission is None or self.admitted is None:
            return
        if self.stage == BETWEEN or not self.keeps():
            self.admission.incomplete.drop(self.admitted)
            return
        number = self.heads + (self.stage == HEAD)
        begins, self.held = number != self.held, number
        fields = len(self.headers)
        size += FIELD_BYTES * (fields if begins else fields - self.held_fields)
        self.held_fields = fields
        self.admission.received(self.admitted, size, begins=begins)

    def close_behind_expectation(self) -> None:
        """Close the connection after the answer to a request that awaits a 100 (Continue).

        An answer may come instead of the 100, and the client then need not send the body (RFC 9110,
        section 10.1.1). Its next request would be taken for that body.
        """
        if not any(name.lower() == b"expect" for name, _ in self.headers):
            return
        if self.answering:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def keeps(self) -> bool:
        """Say whether what comes of the request is kept: the rest of an answered one is dropped."""
        if isinstance(self.parser, Discard):
            return False
        if self.stage == HEAD:
            return True
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    def count(self, size: int) -> None:
        """Count bytes within a request; raises Refused beyond the bound.

        `on_body` takes the body off again. So a body is judged one read late. A head that has an
        end is judged by `check_size`.
        """
        if isinstance(self.parser, Discard):
            return
        if self.stage == HEAD:
            self.head_bytes += size
            if self.head_bytes > 2 * MAX_HEAD:
                raise _too_long(self.url)
            return
        if self.head_bytes > MAX_HEAD:
            raise Refused(431, "trailers", f"Chunk extensions and trailers have {MAX_HEAD} bytes.")
        self.head_bytes = max(0, self.head_bytes) + size

    def check_size(self) -> None:
        """Judge a head that came in more than one piece; raises Refused.

        What counts is what the parser has read, so that it does not matter where the pieces end.
        """
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD:
            raise _too_long(self.url)
        self.head_bytes = 0

    def feed_without_upgrade(self, rest: memoryview) -> None:
        """Read a request again whose Upgrade made the parser stop behind its head, and go on.

        The parser cannot be told to read the body after all. A new one reads the head without the
        Upgrade field, and then what has come behind the head.
        """
        while True:
            head = framing.without_upgrade(
                self.parser.get_method(),
                self.parser.get_http_version(),
                self.url,
                self.headers,
            )
            self.ignoring_upgrade = False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self.fail(_reason(error))
                return
            else:
                return

    def on_message_begin(self) -> None:
        """Begin to count the next head."""
        self.stage = HEAD
        self.head_bytes = 0
        self.discarded = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start answering, or queue behind the request being answered; raises Refused."""
        self.heads += 1
        method = self.parser.get_method()
        if self.head_bytes:
            self.check_size()
        if self.parser.should_upgrade() and method != b"CONNECT":
            self.ignoring_upgrade = True
            return
        self.url = framing.admit(method, self.parser.get_http_version(), self.url, self.headers)
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            raise TooManyPipelined
        self.stage = BODY
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: "RequestResponseCycle", app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Hand over a part of the body, or drop it once the request is answered."""
        self.head_bytes -= len(body)
        self.body_bytes += len(body)
        if self.cycle.response_complete:
            self.drop(body)
        super().on_body(body)

    def drop(self, body: bytes) -> None:
        """Count a part of a body that nobody reads; cuts the connection beyond the bound."""
        self.discarded += len(body)
        if self.discarded > MAX_DISCARDED:
            self.transport.abort()
            raise Ended

    def on_chunk_header(self) -> None:
        """Begin a chunk; behind the last one come trailers, which are dropped.

        uvicorn would add them to the headers that the application has already.
        """
        self.head_bytes -= _CHUNK
        self.headers = []

    def on_message_complete(self) -> None:
        """End a request."""
        self.stage = BETWEEN
        if self.ignoring_upgrade:
            return
        super().on_message_complete()
        if not self.parser.should_keep_alive():
            # The parser reads no more, and a trailer may be what says so.
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()

    def on_response_complete(self) -> None:
        """Start the next answer, or refuse what came behind the last one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.refusal is not None:
            self.send_refusal(self.refusal)

    def fail(self, reason: Refused | None) -> None:
        """Refuse what has come once all requests before it are answered, and read no more."""
        if reason is None or self.transport.is_closing():
            return
        framing.refused[reason.rule] += 1
        answer = self.refusal_of(reason)
        self.discard()
        if self.stage == BODY:
            self.fail_body(answer)
        elif self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # None at first
            self.refusal = answer
        else:
            self.send_refusal(answer)

    def fail_body(self, answer: bytes) -> None:
        """Refuse a request that is being answered, or is about to be."""
        cycle = self.cycle
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            self.refusal = answer
            return
        if cycle is not None and not cycle.response_started:  # type: ignore[redundant-expr]  # None at first
            self.send_refusal(answer)
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def unfinished(self) -> bool:
        """Say whether the client may still be sending what nobody will read."""
        return self.stage == BODY or isinstance(self.parser, Discard)

    def discard(self) -> None:
        """Drop what comes from now on, up to a bound."""
        if not isinstance(self.parser, Discard):
            self.parser = Discard(self.lingering)  # type: ignore[assignment]  # all that is called
        self.url, self.headers = b"", []
        if self.admission is not None and self.admitted is not None:
            self.admission.incomplete.drop(self.admitted)
        self.flow.resume_reading()

    @property
    def peer(self) -> str:
        """The TCP peer's address."""
        return self.client[0] if self.client else ""

    @property
    def in_head(self) -> bool:
        """Whether the rest of a head is awaited."""
        return self.stage == HEAD

    @property
    def in_body(self) -> bool:
        """Whether the rest of a body is awaited."""
        return self.stage == BODY

    @property
    def answering(self) -> bool:
        """Whether an answer is due or on its way."""
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    @property
    def reading_paused(self) -> bool:
        """Whether the server holds up the reading, and not the client."""
        return self.flow.read_paused or getattr(self.cycle, "waiting_for_100_continue", False)

    def end(self, *, request_begun: bool) -> None:
        """Answer 408 if a request has begun and no answer to it has, then close the connection."""
        if request_begun:
            self.lingering.hurry()
            self.fail(Refused(408, "timeout", "The request took too long."))
        else:
            self.transport.close()

    def refusal_of(self, reason: Refused) -> bytes:
        """Return an answer by the sentence of a rule, without a body to HEAD."""
        body = f"{reason}\n".encode()
        lines = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in lines) + b"\r\n"
        # Before the target has come, the parser may have the method of the request before.
        known = reason.rule == "target" or (self.stage and self.url)
        to_head = known and self.parser.get_method() == b"HEAD"
        return STATUS_LINE[reason.status] + head + (b"" if to_head else body)

    def send_refusal(self, answer: bytes) -> None:
        """Send a last answer and close the connection."""
        self.transport.write(answer)
        self.transport.close()


class TooManyPipelined(Exception):
    """Ends the parsing of what else has arrived on the connection."""


def _reason(error: httptools.HttpParserError) -> Refused | None:
    """Return why the parser stopped; None if the connection is cut already."""
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return Refused(400, "target", "Percent-encode what a request target may not have.")
    if not isinstance(error, httptools.HttpParserCallbackError):
        return Refused(400, "syntax", f"This is not an HTTP/1.1 request: {error}.")
    if isinstance(error.__context__, Refused):
        return error.__context__
    if isinstance(error.__context__, (TooManyPipelined, Ended)):
        return None
    log.error("a request failed", exc_info=error.__context__)
    return Refused(500, "internal", "The request failed.")


def _too_long(target: bytes) -> Refused:
    if len(target) > MAX_HEAD // 2:
        return Refused(414, "length", f"A request line has {MAX_HEAD} bytes at the most.")
    return Refused(431, "length", f"A request's head has {MAX_HEAD} bytes at the most.")
