"""Ends a connection to PostgreSQL whose server sends what is no message of the protocol.

asyncpg 0.32 takes a message of type 0 for one that it has not read yet, and looks for it for ever: the
process then does nothing else, not even for `/livez`. So the headers of all messages are checked before
asyncpg reads them.
"""

import asyncio
import struct
from typing import Any

import asyncpg.protocol
import structlog

log = structlog.stdlib.get_logger(__name__)

MAX_MESSAGE = 0x40000000
"""Maximum length of a message: PostgreSQL has no value of 1 GiB or more."""

_HEADER = struct.Struct("!Bi")
_SIZE = _HEADER.size
_TYPES = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class Messages:
    """Follows the messages of one connection by their headers: a type and a length."""

    def __init__(self) -> None:
        self._rest = 0
        self._header = b""

    def valid(self, data: bytes) -> bool:
        """Take in what the server has sent next; returns whether all headers in it are possible."""
        at = self._rest
        if self._header:
            missing = _SIZE - len(self._header)
            self._header += data[:missing]
            if len(self._header) < _SIZE:
                return True
            kind, length = _HEADER.unpack(self._header)
            if kind not in _TYPES or not 4 <= length <= MAX_MESSAGE:  # noqa: PLR2004  # its own size
                return False
            at = length - 4 + missing
            self._header = b""
        size = len(data)
        last = size - _SIZE
        header_at = _HEADER.unpack_from
        while at <= last:
            kind, length = header_at(data, at)
            if kind not in _TYPES or not 4 <= length <= MAX_MESSAGE:  # noqa: PLR2004  # its own size
                return False
            at += 1 + length
        self._rest = max(0, at - size)
        self._header = data[at:]
        return True


class CheckedProtocol(asyncpg.protocol.Protocol):
    """asyncpg's protocol, which reads only what `Messages` finds valid."""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._wire: asyncio.Transport = transport
        self._messages = Messages()
        super().connection_made(transport)

    def data_received(self, data: Any) -> None:
        """Read on, or cut the connection; what waits for an answer then fails as if it were lost."""
        if self._wire.is_closing():
            return
        if self._messages.valid(data):
            super().data_received(data)
            return
        log.warning("PostgreSQL sent what is no message of its protocol", begins=data[:32].hex())
        self._wire.abort()


def check_messages() -> None:
    """Make all connections of this process use CheckedProtocol: asyncpg has no option for it."""
    asyncpg.protocol.Protocol = CheckedProtocol  # type: ignore[assignment,misc]  # on purpose
