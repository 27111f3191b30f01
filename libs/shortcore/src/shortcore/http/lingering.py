"""Closes a connection so that its last answer arrives although the client is still sending.

A socket that is closed with unread bytes sends a reset, and the reset makes the client's system drop an
answer that the client has not read yet (RFC 9112, section 9.6). So the write side is closed first, and
what still comes is read and dropped for a while.
"""

import asyncio
from typing import Any, Protocol

MAX_DISCARDED = 16 * 2**20
"""Bytes of a request that are read and dropped after its answer; then the connection is cut."""

LINGER_S = 10.0
"""How long a client may go on sending after the write side was closed, in seconds."""

TIMEOUT_LINGER_S = 0.5
"""The same for a client that was too slow: its connection must not keep its place for longer."""


class Ended(Exception):
    """Ends the parsing of what has come behind the last request that is answered."""


class Discard:
    """Stands in place of the parser: drops what comes, and cuts the connection at the bound."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = MAX_DISCARDED

    def feed_data(self, data: bytes | memoryview) -> None:
        """Drop `data`."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def get_method(self) -> bytes:
        """Raise Ended: the parser itself has found one more request in its last read."""
        raise Ended


class Lingers(Protocol):
    """What LingeringTransport asks of the protocol."""

    def unfinished(self) -> bool:
        """Say whether the client may still be sending what nobody will read."""

    def discard(self) -> None:
        """Drop what comes from now on."""


class LingeringTransport(asyncio.Transport):
    """A transport whose `close` waits for a client that may still be sending.

    The connection ends when the client closes it, or after LINGER_S (TIMEOUT_LINGER_S after `hurry`).
    """

    def __init__(
        self, transport: asyncio.Transport, protocol: Lingers, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self._transport = transport
        self._protocol: Lingers | None = protocol
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._linger_s: float | None = None

    def hurry(self) -> None:
        """Linger for TIMEOUT_LINGER_S at most, unless the client is still taking an answer."""
        if not self._transport.get_write_buffer_size():
            self._linger_s = TIMEOUT_LINGER_S

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`; nothing follows a last answer."""
        if self._timer is None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection, or only its write side while the client may still be sending."""
        if self._timer is not None or self._transport.is_closing():
            return
        if self._protocol is None or not self._protocol.unfinished():
            self._transport.close()
            return
        linger_s = LINGER_S if self._linger_s is None else self._linger_s
        self._timer = self._loop.call_later(linger_s, self._transport.abort)
        self._protocol.discard()
        self._transport.write_eof()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    def lost(self) -> None:
        """Stop waiting: the connection is gone."""
        self._protocol = None  # each holds the other, and such garbage is collected seldom
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._timer is not None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of the connection."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._transport.set_protocol(protocol)
