"""Admits a connection, and counts the bytes of its incomplete request; `deadlines` reads its state."""

import asyncio
from typing import TYPE_CHECKING, Any

from shortcore.http.framing import Refused
from shortcore.http.incomplete import FIELD_BYTES
from shortcore.http.lingering import Discard
from shortcore.http.refusing_protocol import RefusingProtocol
from shortcore.http.stages import BETWEEN, BODY, HEAD

if TYPE_CHECKING:
    from shortcore.http.connections import Connections
    from shortcore.http.deadlines import Connection


class AdmittedProtocol(RefusingProtocol):
    """One connection, if `admission` admits it.

    `admission` also ends connections that are past a deadline. uvicorn's timer for idle connections,
    which each response sets and each request cancels, is not used.
    """

    def __init__(
        self, *arguments: Any, admission: "Connections | None" = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.admission = admission
        self.admitted: Connection | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start to serve the connection, unless there are too many."""
        super().connection_made(transport)
        self.heard = False
        self.heads = 0
        self.body_bytes = 0
        self._expectation_checked = 0
        self._incomplete = 0
        self._incomplete_fields = 0
        if self.admission is not None:
            self.admitted = self.admission.admit(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the end of the connection."""
        if self.admission is not None and self.admitted is not None:
            self.admission.release(self.admitted)
        super().connection_lost(exc)
        self.admitted = None  # it refers to this object

    def resume_writing(self) -> None:
        """Let the application write again, because the client has read enough."""
        if self.admitted is not None:
            self.admitted.resumed()
        super().resume_writing()

    def discard(self) -> None:
        """Drop all incoming bytes from now on, up to a bound."""
        super().discard()
        if self.admission is not None and self.admitted is not None:
            self.admission.incomplete.drop(self.admitted)

    @property
    def peer(self) -> str:
        """The TCP peer's address."""
        return self.client[0] if self.client else ""

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self.stage == HEAD

    @property
    def in_body(self) -> bool:
        """Whether a body has begun and is not complete."""
        return self.stage == BODY

    @property
    def reading_paused(self) -> bool:
        """Whether the server has paused reading, so that the client cannot send."""
        return self.flow.read_paused or self.awaiting_continue

    def end(self, *, request_begun: bool) -> None:
        """Respond 408 if a request has begun and has no response yet, then close the connection."""
        if request_begun:
            self.lingering.hurry()
            self.refuse(Refused(408, "timeout", "The request took too long."))
        else:
            self.transport.close()

    def count_incomplete(self, size: int) -> None:
        """Count `size` received bytes if they end with an incomplete request.

        They may begin with the end of other requests. The size of the incomplete request is then
        overestimated until it is complete.
        """
        if self.stage == BODY and self._expectation_checked != self.heads:
            self._expectation_checked = self.heads
            self._close_behind_expectation()
        if self.admission is None or self.admitted is None:
            return
        if self.stage == BETWEEN or not self._keeps():
            self.admission.incomplete.drop(self.admitted)
            return
        number = self.heads + (self.stage == HEAD)
        begins, self._incomplete = number != self._incomplete, number
        fields = len(self.headers)
        size += FIELD_BYTES * (fields if begins else fields - self._incomplete_fields)
        self._incomplete_fields = fields
        self.admission.received(self.admitted, size, begins=begins)

    def _close_behind_expectation(self) -> None:
        """Close the connection after the response to a request that awaits a 100 (Continue).

        The final response may come instead of the 100, and the client then need not send the body
        (RFC 9110, section 10.1.1). Its next request would be taken for that body.
        """
        if not any(name.lower() == b"expect" for name, _ in self.headers):
            return
        if self.responding:
            self.close_after_response()
        else:
            self.transport.close()

    def _keeps(self) -> bool:
        """Return whether the bytes of the request are kept; those of an answered one are dropped."""
        if isinstance(self.parser, Discard):
            return False
        return self.stage == HEAD or self.responding
