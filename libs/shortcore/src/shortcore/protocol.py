"""uvicorn's HTTP/1.1 protocol with a bound on what one connection may pile up.

uvicorn parses every pipelined request that has arrived, and reads on after each answer: a client
that sends without reading fills the memory. So does a request line or a header without an end, which
it collects whatever its length. Here such connections are cut.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_PIPELINED = 128
"""Requests of one connection that may wait behind the one being answered."""

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers, beyond those of the read in which it began."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection; malformed requests are answered 400 and not logged (anybody can send them)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin."""
        super().connection_made(transport)
        self.cut = False
        self.heard = True
        self.in_head = False
        self.head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what has come; `heard` says so to who looks after idle connections."""
        self.heard = True
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self.in_head:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD:
                self.send_400_response(f"A request's head has {MAX_HEAD} bytes at the most.")
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.cut:
                self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            # The answer to the request has been started; nothing is spoken here but HTTP.
            return

    def on_message_begin(self) -> None:
        """Begin to count the next head."""
        self.in_head = True
        self.head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start answering, or queue behind the request being answered."""
        self.in_head = False
        if len(self.pipeline) >= MAX_PIPELINED:
            self.cut = True
            self.transport.abort()
            raise TooManyPipelined
        super().on_headers_complete()


class TooManyPipelined(Exception):
    """Ends the parsing of what else has arrived on the connection."""


class JoinedProtocol(BoundedProtocol):
    """One connection whose answers' heads travel with what follows them.

    uvicorn writes them apart, which makes a system call and a packet of each.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin."""
        super().connection_made(transport)
        self.transport = _Joined(transport, self.loop)


class _Joined(asyncio.Transport):
    """Holds what is written until more comes, or to the end of the loop's turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._held = bytes(data)
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._flush()
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
