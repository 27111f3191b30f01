"""Closes a connection so that its last response arrives even if the client is still sending.

A socket that is closed with unread bytes sends a reset, and the client's system then drops a response
that the client has not read yet (RFC 9112, section 9.6). So the write side is closed first, and for a
while incoming bytes are read and dropped.
"""

import asyncio
from typing import Any, Protocol

MAX_DISCARDED = 16 * 2**20
"""Bytes of a request that are read and dropped after its response; then the connection is cut."""

LINGER_S = 10.0
"""Seconds for which a client may still send after the write side was closed."""

TIMEOUT_LINGER_S = 0.5
"""The same for a client that was too slow, so that its connection makes room for others soon."""


class Ended(Exception):
    """Stops the parser at the first byte after the last request that is answered."""


class Discard:
    """Replaces the parser: drops incoming bytes, and cuts the connection at the bound."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._left = MAX_DISCARDED

    def feed_data(self, data: bytes | memoryview) -> None:
        """Drop `data`."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def get_method(self) -> bytes:
        """Raise Ended: the replaced parser has found one more request in its last read."""
        raise Ended


class Lingers(Protocol):
    """The methods of a protocol that LingeringTransport calls."""

    def unfinished(self) -> bool:
        """Return whether the client may still be sending bytes that nobody will read."""

    def discard(self) -> None:
        """Drop all incoming bytes from now on."""


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
        """Linger for at most TIMEOUT_LINGER_S, unless a response is still being sent."""
        if not self._transport.get_write_buffer_size():
            self._linger_s = TIMEOUT_LINGER_S

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, unless the write side is closed."""
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
        """Stop the timer: the connection is lost."""
        self._protocol = (
            None  # a reference cycle stays in memory until a garbage collection, and those are rare
        )
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Return whether the write side is closed, so that nothing more can be sent."""
        return self._timer is not None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a property of the connection."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._transport.set_protocol(protocol)
