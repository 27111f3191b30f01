"""The HTTP/1.1 protocol of every port: uvicorn's, with bounds on what one connection may use.

uvicorn parses every pipelined request that has arrived, and continues to read after each response: a
client that sends requests without reading the responses fills the memory. An endless head, chunk
extension or trailer does the same. uvicorn also stops reading the body of a request with Upgrade, and
takes that body for the next request. Here such connections are cut, and such a request is read as if
it had no Upgrade.
"""

import asyncio

import httptools

from shortcore.http import framing
from shortcore.http.admitted_protocol import AdmittedProtocol
from shortcore.http.framing import Refused
from shortcore.http.lingering import Discard
from shortcore.http.refusing_protocol import TooManyPipelined
from shortcore.http.stages import BETWEEN, BODY, HEAD

MAX_PIPELINED = 128
"""Maximum number of requests that wait behind the one being answered."""

MAX_HEAD = 64 * 1024
"""Maximum size of a request line with its header fields, in bytes.

It is also the maximum size of the trailers together with the chunk sizes and chunk extensions of a
body. Those in the same read as the end of the head do not count.
"""

_CHUNK = 20
"""Bytes around a chunk that do not count: a size of 16 digits and two line ends."""


class BoundedProtocol(AdmittedProtocol):
    """One connection whose requests are bounded in size and number."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Initialise the protocol for a new connection."""
        super().connection_made(transport)
        self.head_bytes = 0
        self.ignoring_upgrade = False

    def data_received(self, data: bytes) -> None:
        """Parse the bytes that have arrived."""
        self.heard = True
        try:
            if self.stage or len(data) > MAX_HEAD:
                self._feed_counted(memoryview(data))
                self.count_incomplete(len(data))
            else:
                self.parser.feed_data(data)
                if self.stage:
                    self.count_incomplete(len(data))  # type: ignore[unreachable]  # the parser changes the stage
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(memoryview(data)[upgrade.args[0] :])
            self.count_incomplete(len(data))
        except httptools.HttpParserError as error:
            self.refuse_unreadable(error)
        except Refused as reason:
            self.refuse(reason)

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
            self._check_head_size()
        if self.parser.should_upgrade() and method != b"CONNECT":
            self.ignoring_upgrade = True
            return
        self.url = framing.admit(method, self.parser.get_http_version(), self.url, self.headers)
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            raise TooManyPipelined
        self.stage = BODY
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand over a part of the body, or drop it once the request is answered."""
        self.head_bytes -= len(body)
        self.body_bytes += len(body)
        if self.cycle.response_complete:
            self.drop(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Begin a chunk; the trailers behind the last chunk are dropped.

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
            # The parser reads no more. A trailer may have asked for this, after the head did not.
            self.close_after_response()
            if self.cycle.response_complete:
                self.transport.close()

    def _feed_counted(self, data: memoryview) -> None:
        """Parse a read that begins within a request, or is longer than a head may be."""
        while data:
            piece, data = data[:MAX_HEAD], data[MAX_HEAD:]
            if self.stage:
                self._count(len(piece))
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                self._feed_without_upgrade(piece[upgrade.args[0] :])

    def _count(self, size: int) -> None:
        """Count bytes within a request; raises Refused beyond the bound.

        `on_body` subtracts the bytes of the body, so a body is judged one read late. A head that
        has an end is judged by `_check_head_size`.
        """
        if isinstance(self.parser, Discard):
            return
        if self.stage == HEAD:
            self.head_bytes += size
            if self.head_bytes > 2 * MAX_HEAD:
                raise _too_long(self.url)
            return
        if self.head_bytes > MAX_HEAD:
            raise Refused(
                431, "trailers", f"Chunk extensions and trailers have at most {MAX_HEAD} bytes."
            )
        self.head_bytes = max(0, self.head_bytes) + size

    def _check_head_size(self) -> None:
        """Judge a head that came in more than one piece; raises Refused.

        It judges what the parser has read, so that it does not matter where the pieces end.
        """
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD:
            raise _too_long(self.url)
        self.head_bytes = 0

    def _feed_without_upgrade(self, rest: memoryview) -> None:
        """Read the request again whose Upgrade made the parser stop behind its head, and go on.

        The parser cannot continue with the body. So a new one reads the head without the Upgrade field,
        and then the bytes behind the head.
        """
        while True:
            head = framing.without_upgrade(
                self.parser.get_method(),
                self.parser.get_http_version(),
                self.url,
                self.headers,
            )
            self.ignoring_upgrade = False
            parser = self.renew_parser()
            try:
                parser.feed_data(head)
                parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self.refuse_unreadable(error)
                return
            else:
                return


def _too_long(target: bytes) -> Refused:
    if len(target) > MAX_HEAD // 2:
        return Refused(414, "length", f"A request line has at most {MAX_HEAD} bytes.")
    return Refused(431, "length", f"The head of a request has at most {MAX_HEAD} bytes.")
