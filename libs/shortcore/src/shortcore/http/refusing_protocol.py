"""Answers a request that breaks a rule of `framing` with one sentence, and closes the connection."""

import asyncio

import httptools
import structlog

from shortcore.http import framing
from shortcore.http.framing import Refused
from shortcore.http.lingering import MAX_DISCARDED, Discard, Ended, LingeringTransport
from shortcore.http.stages import BETWEEN, BODY
from shortcore.http.uvicorn_adapter import STATUS_LINE, UvicornProtocol

log = structlog.stdlib.get_logger(__name__)


class RefusingProtocol(UvicornProtocol):
    """One connection on which malformed requests are answered.

    They are counted and not logged, as anybody can send them.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Initialise the protocol for a new connection."""
        super().connection_made(transport)
        self.transport = self.lingering = LingeringTransport(transport, self, self.loop)
        self.stage = BETWEEN
        self.url = b""
        self.discarded = 0
        self.refusal: bytes | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the end of the connection."""
        self.lingering.lost()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the next response, or send the refusal of the bytes after the last request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if not self.start_next() and self.refusal is not None:
            self.send_refusal(self.refusal)

    def refuse_unreadable(self, error: httptools.HttpParserError) -> None:
        """Refuse the request that stopped the parser; does nothing if the connection is cut already."""
        reason = _reason(error)
        if reason is not None:
            self.refuse(reason)

    def refuse(self, reason: Refused) -> None:
        """Read no more, and send the refusal after the responses to all requests before it."""
        if self.transport.is_closing():
            return
        framing.refused[reason.rule] += 1
        refusal = self.response_to(reason)
        self.discard()
        if self.stage == BODY:
            self.refuse_in_body(refusal)
        elif self.responding:
            self.refusal = refusal
        else:
            self.send_refusal(refusal)

    def refuse_in_body(self, refusal: bytes) -> None:
        """Refuse the newest request, whose head was accepted."""
        if self.withdraw_newest():
            self.refusal = refusal
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_started:  # type: ignore[redundant-expr]  # None at first
            self.send_refusal(refusal)
        self.disconnect_newest()
        self.transport.close()

    def response_to(self, reason: Refused) -> bytes:
        """Return the response to a request that breaks a rule, without a body if it is a HEAD."""
        body = f"{reason}\n".encode()
        lines = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in lines) + b"\r\n"
        # Until the target has arrived, the parser may have the method of the previous request.
        known = reason.rule == "target" or (self.stage and self.url)
        to_head = known and self.parser.get_method() == b"HEAD"
        return STATUS_LINE[reason.status] + head + (b"" if to_head else body)

    def send_refusal(self, refusal: bytes) -> None:
        """Send a last response and close the connection."""
        self.transport.write(refusal)
        self.transport.close()

    def drop(self, body: bytes) -> None:
        """Count a part of a body that nobody reads; cuts the connection beyond MAX_DISCARDED."""
        self.discarded += len(body)
        if self.discarded > MAX_DISCARDED:
            self.transport.abort()
            raise Ended

    def unfinished(self) -> bool:
        """Return whether the client may still be sending bytes that nobody will read."""
        return self.stage == BODY or isinstance(self.parser, Discard)

    def discard(self) -> None:
        """Drop all incoming bytes from now on, up to MAX_DISCARDED."""
        if not isinstance(self.parser, Discard):
            self.parser = Discard(self.lingering)  # type: ignore[assignment]  # all that is called
        self.url, self.headers = b"", []
        self.flow.resume_reading()


class TooManyPipelined(Exception):
    """Stops the parser on a connection that was cut although more bytes have arrived."""


def _reason(error: httptools.HttpParserError) -> Refused | None:
    """Return why the parser stopped; None if the connection is cut already."""
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return Refused(
            400, "target", "Percent-encode the characters that a request target must not contain."
        )
    if not isinstance(error, httptools.HttpParserCallbackError):
        return Refused(400, "syntax", f"This is not an HTTP/1.1 request: {error}.")
    if isinstance(error.__context__, Refused):
        return error.__context__
    if isinstance(error.__context__, (TooManyPipelined, Ended)):
        return None
    log.error("request failed", exc_info=error.__context__)
    return Refused(500, "internal", "The request failed.")
