"""What every response passes once before it is sent: it is counted, and its click is captured."""

from typing import Protocol

from redirector.clicks.capture import Capture
from redirector.counts import Counts
from redirector.links.request import Request
from redirector.responses.responses import Response
from shortcore.links.record import LinkRecord


class Respond(Protocol):
    """Counts a response, and captures its click if it is a redirect by the link of `record`."""

    def __call__(
        self, request: Request, response: Response, record: LinkRecord | None = None, flags: int = 0
    ) -> Response:
        """Return `response`; `flags` are those of the click."""


def make_respond(counts: Counts, capture: Capture) -> Respond:
    """Return the function, as a closure: a local cache hit calls it."""
    values = counts.values

    def respond(
        request: Request, response: Response, record: LinkRecord | None = None, flags: int = 0
    ) -> Response:
        template = response.template
        values[template.counter] += 1
        if template.is_click and record is not None:
            capture(record, request.method, request.headers, request.peer, flags)
        return response

    return respond
