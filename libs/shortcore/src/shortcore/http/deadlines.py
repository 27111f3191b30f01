"""The deadlines of one connection: how long a head, a body, an answer and a pause may take.

A request sets no timer. The protocol counts heads and bytes as they pass, and a check about once a
second compares the counts with those of the check before.
"""

import asyncio
from typing import Any, Protocol

from shortcore.http.connection_limits import Limits
from shortcore.http.connection_metrics import Reason

_LOW_WATER_DRAIN = 48 * 1024
"""Bytes that have left a full write buffer when asyncio lets the protocol write again."""


class Watched(Protocol):
    """What a check reads of an HTTP protocol."""

    transport: Any
    heard: bool
    """Whether bytes came since the last check, which sets it to False."""
    heads: int
    """Number of complete heads."""
    body_bytes: int
    """Bytes of all bodies."""

    @property
    def peer(self) -> str:
        """The TCP peer's address."""

    @property
    def in_head(self) -> bool:
        """Whether the rest of a head is awaited."""

    @property
    def in_body(self) -> bool:
        """Whether the rest of a body is awaited."""

    @property
    def responding(self) -> bool:
        """Whether an answer is due or on its way."""

    @property
    def reading_paused(self) -> bool:
        """Whether the server holds up the reading, and not the client."""

    def end(self, *, request_begun: bool) -> None:
        """Answer 408 if a request has begun and no answer to it has, then close the connection."""


class Connection:
    """One connection and what was seen of it so far. Times are those of the checks' clock."""

    __slots__ = (
        "_body_bytes", "_body_since", "_drained", "_head_begun", "_head_since", "_heads",
        "_idle_since", "_in_body", "_pending", "_write_since", "client", "number", "protocol",
        "transport",
    )  # fmt: skip

    def __init__(
        self,
        protocol: Watched,
        transport: asyncio.Transport,
        client: str | None,
        number: int,
        now: float,
    ) -> None:
        self.protocol = protocol
        self.transport = transport
        self.client = client
        self.number = number
        self._heads = 0
        self._head_since: float | None = now
        self._head_begun = False
        self._idle_since = now
        self._in_body = False
        self._body_since = now
        self._body_bytes = 0
        self._write_since = now
        self._pending = 0
        self._drained = 0

    @property
    def silent(self) -> bool:
        """Whether nothing has ever come."""
        return not (self._heads or self._head_begun or self.protocol.heads or self.protocol.heard)

    def silent_s(self, now: float) -> float:
        """Return for how long nothing has come since the connection was opened."""
        return now - self._idle_since if self.silent else 0.0

    def resumed(self) -> None:
        """Take note that a full write buffer has drained."""
        self._drained += _LOW_WATER_DRAIN

    def check(self, limits: Limits, now: float) -> Reason | None:
        """Return why the connection has to end, if it has to."""
        if self._write_stalled(limits, now):
            return Reason.WRITE_TIMEOUT
        protocol = self.protocol
        if protocol.transport.is_closing():
            return None  # what is left to write has its own deadline, above
        heard, protocol.heard = protocol.heard, False
        if protocol.heads != self._heads:
            self._heads = protocol.heads
            self._begin_anew(now)
            heard = False  # it was that head
        elif self._in_body:
            heard = False  # it was the rest of that body
        self._in_body = protocol.in_body
        if protocol.reading_paused:
            self._begin_anew(now)
        elif protocol.in_body:
            return self._check_body(limits, now)
        elif protocol.responding:
            self._begin_anew(now)
        else:
            return self._check_head(limits, now, begun=heard or protocol.in_head)
        return None

    def _begin_anew(self, now: float) -> None:
        self._head_since = None
        self._head_begun = False
        self._idle_since = self._body_since = now
        self._body_bytes = self.protocol.body_bytes

    def _check_head(self, limits: Limits, now: float, *, begun: bool) -> Reason | None:
        """Check a connection that awaits a request, or the rest of its head."""
        if begun:
            self._head_begun = True
            if self._head_since is None:
                self._head_since = now
        if self._head_since is None:
            return Reason.IDLE if now - self._idle_since > limits.idle_s else None
        if now - self._head_since <= limits.head_s:
            return None
        return Reason.HEAD_TIMEOUT if self._head_begun else Reason.SILENT

    def _check_body(self, limits: Limits, now: float) -> Reason | None:
        elapsed = now - self._body_since
        if elapsed <= limits.body_grace_s:
            return None
        came = self.protocol.body_bytes - self._body_bytes
        self._begin_anew(now)
        return Reason.BODY_TIMEOUT if came < limits.bytes_per_s * elapsed else None

    def _write_stalled(self, limits: Limits, now: float) -> bool:
        """Return whether the client took too little of what waits to be written, for too long."""
        pending = self.transport.get_write_buffer_size()
        if not pending:
            self._pending = 0
            return False
        if not self._pending:
            self._write_since, self._drained = now, 0
        elif pending < self._pending:
            self._drained += self._pending - pending
        self._pending = pending
        elapsed = now - self._write_since
        if elapsed <= limits.write_s:
            return False
        stalled = self._drained < limits.bytes_per_s * elapsed
        self._write_since, self._drained = now, 0
        return stalled
