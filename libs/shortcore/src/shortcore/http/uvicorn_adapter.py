"""The undocumented attributes of uvicorn's HTTP/1.1 protocol that Shortlinks uses.

uvicorn keeps the request that is being answered in `cycle`, and the requests behind it in `pipeline`.
`libs/shortcore/tests/test_uvicorn_adapter.py` fails if a version of uvicorn lacks one of these names.
"""

from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["STATUS_LINE", "UvicornProtocol"]

ATTRIBUTES = {
    "HttpToolsProtocol": frozenset(
        {
            "client", "cycle", "flow", "headers", "loop", "parser", "pipeline", "server_state",
            "tasks", "transport", "url",
        }
    ),
    "RequestResponseCycle": frozenset(
        {
            "disconnected", "keep_alive", "message_event", "response_complete", "response_started",
            "waiting_for_100_continue",
        }
    ),
    "FlowControl": frozenset({"read_paused", "resume_reading", "write_paused"}),
    "ServerState": frozenset({"default_headers", "total_requests"}),
}  # fmt: skip
"""The attributes of uvicorn's objects that this class and its subclasses read or set."""

METHODS = {
    "_start_asgi_task": ("cycle", "app"),
    "connection_lost": ("exc",),
    "connection_made": ("transport",),
    "data_received": ("data",),
    "on_body": ("body",),
    "on_header": ("name", "value"),
    "on_headers_complete": (),
    "on_message_begin": (),
    "on_message_complete": (),
    "on_response_complete": (),
    "on_url": ("url",),
    "resume_writing": (),
}
"""The methods of HttpToolsProtocol that are called or overridden, with their parameters."""


class UvicornProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with named operations on its state for subclasses."""

    running: "RequestResponseCycle | None" = None
    """The last request for which an ASGI task was started."""

    @property
    def responding(self) -> bool:
        """Whether the response to the newest request is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def awaiting_continue(self) -> bool:
        """Whether the client waits for a 100 (Continue) before it sends the body."""
        return getattr(self.cycle, "waiting_for_100_continue", False)

    def close_after_response(self) -> None:
        """Close the connection after the response to the newest request."""
        self.cycle.keep_alive = False

    def withdraw_newest(self) -> bool:
        """Take back the newest request; returns False if it is already being answered."""
        if not self.pipeline or self.pipeline[0][0] is not self.cycle:
            return False
        self.pipeline.popleft()
        return True

    def disconnect_newest(self) -> None:
        """Notify the application of the newest request that its client has disconnected."""
        if self.cycle is not None:
            _disconnect(self.cycle)

    def start_next(self) -> bool:
        """Start the request that has waited longest; returns whether there was one."""
        if not self.pipeline:
            return False
        self._start_asgi_task(*self.pipeline.pop())
        return True

    def renew_parser(self) -> httptools.HttpRequestParser:
        """Replace the parser with a new one, configured as uvicorn does, and return it."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return self.parser

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the applications of all requests, and drop the references to this object."""
        running = self.running
        if running is not None and not running.response_complete:
            _disconnect(running)  # uvicorn notifies only the newest request
        super().connection_lost(exc)
        # A cycle of references stays in memory until a garbage collection, and those are rare.
        self.running = None
        self.cycle = None  # type: ignore[assignment]  # None at first
        self.pipeline.clear()

    def _start_asgi_task(self, cycle: "RequestResponseCycle", app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)


def _disconnect(cycle: "RequestResponseCycle") -> None:
    cycle.disconnected = True
    cycle.message_event.set()
