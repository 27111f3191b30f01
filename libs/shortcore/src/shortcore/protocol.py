"""uvicorn's HTTP/1.1 protocol with a bound on what one connection may pile up.

uvicorn parses every pipelined request that has arrived, and reads on after each answer: a client
that sends without reading fills the memory. Here such a connection is cut.
"""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_PIPELINED = 128
"""Requests of one connection that may wait behind the one being answered."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection; malformed requests are answered 400 and not logged (anybody can send them)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin."""
        super().connection_made(transport)
        self.cut = False

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.cut:
                self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            # The answer to the request has been started; nothing is spoken here but HTTP.
            return

    def on_headers_complete(self) -> None:
        """Start answering, or queue behind the request being answered."""
        if len(self.pipeline) >= MAX_PIPELINED:
            self.cut = True
            self.transport.abort()
            raise TooManyPipelined
        super().on_headers_complete()


class TooManyPipelined(Exception):
    """Ends the parsing of what else has arrived on the connection."""
