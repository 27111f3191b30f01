"""A protocol that sends the head of a response together with the first part of its body.

uvicorn writes them separately, which takes a system call and a packet for each.
"""

import asyncio
from typing import Any

from shortcore.http.protocol import BoundedProtocol


class JoinedProtocol(BoundedProtocol):
    """One connection whose responses are sent in as few packets as possible."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Initialise the protocol for a new connection."""
        super().connection_made(transport)
        self.transport = _JoiningTransport(self.transport, self.loop)


class _JoiningTransport(asyncio.Transport):
    """Delays a write until the next write, or until the end of the event loop iteration."""

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
