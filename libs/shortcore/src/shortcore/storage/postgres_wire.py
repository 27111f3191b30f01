"""Ends a connection to PostgreSQL if the server sends an invalid message.

asyncpg 0.32 mistakes a message of type 0 for a message that has not arrived yet, and then loops
endlessly: the process does nothing else, and does not even answer `/livez`. So the headers of all
messages are checked before asyncpg reads them.
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
        """Read the next bytes from the server; returns whether all message headers in them are valid."""
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
    """asyncpg's protocol, for valid messages only."""

    def connection_made(self, transport: Any) -> None:
        """Initialise the protocol for a new connection."""
        self._wire: asyncio.Transport = transport
        self._messages = Messages()
        super().connection_made(transport)

    def data_received(self, data: Any) -> None:
        """Pass valid messages on, or cut the connection, so that pending queries fail."""
        if self._wire.is_closing():
            return
        if self._messages.valid(data):
            super().data_received(data)
            return
        log.warning("invalid message from PostgreSQL", begins=data[:32].hex())
        self._wire.abort()


def check_messages() -> None:
    """Use CheckedProtocol for all connections of this process; asyncpg has no option for it."""
    asyncpg.protocol.Protocol = CheckedProtocol  # type: ignore[assignment,misc]  # on purpose
