"""The deadlines of one connection: for a head, a body, a response and an idle connection.

A request sets no timer. The protocol counts heads and bytes, and a check about once per second compares
the counts with those of the previous check.
"""

import asyncio
from typing import Any, Protocol

from shortcore.http.connection_limits import Limits
from shortcore.http.connection_metrics import Reason

_LOW_WATER_DRAIN = 48 * 1024
"""Bytes that have left a full write buffer when asyncio calls `resume_writing`."""


class Watched(Protocol):
    """The state of an HTTP protocol that a check reads."""

    transport: Any
    heard: bool
    """Whether bytes have arrived since the last check, which sets it to False."""
    heads: int
    """Number of complete heads."""
    body_bytes: int
    """Bytes of all bodies."""

    @property
    def peer(self) -> str:
        """The TCP peer's address."""

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and is not complete."""

    @property
    def in_body(self) -> bool:
        """Whether a body has begun and is not complete."""

    @property
    def responding(self) -> bool:
        """Whether the response to the newest request is not complete."""

    @property
    def reading_paused(self) -> bool:
        """Whether the server has paused reading, so that the client cannot send."""

    def end(self, *, request_begun: bool) -> None:
        """Respond 408 if a request has begun and has no response yet, then close the connection."""


class Connection:
    """One connection and its state at the last check. Times are seconds of the clock of the checks."""

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
        """Whether no byte has ever arrived."""
        return not (self._heads or self._head_begun or self.protocol.heads or self.protocol.heard)

    def silent_s(self, now: float) -> float:
        """Return the seconds since the connection was opened, or 0 if it has sent anything."""
        return now - self._idle_since if self.silent else 0.0

    def resumed(self) -> None:
        """Count the bytes that have left a full write buffer."""
        self._drained += _LOW_WATER_DRAIN

    def check(self, limits: Limits, now: float) -> Reason | None:
        """Return the reason to end the connection, or None."""
        if self._write_stalled(limits, now):
            return Reason.WRITE_TIMEOUT
        protocol = self.protocol
        if protocol.transport.is_closing():
            return None  # the write deadline, above, still applies
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
        """Return whether the client has read less than the minimum rate for too long."""
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
