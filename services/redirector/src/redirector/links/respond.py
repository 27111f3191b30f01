"""What every response passes once before it is sent: it is counted, and its click is captured."""

from typing import Protocol

from redirector.clicks.capture import Capture
from redirector.counts import Counts
from redirector.links.request import Headers, Peer
from redirector.responses.responses import Response
from shortcore.links.record import LinkRecord


class Respond(Protocol):
    """Counts a response, and captures its click if it is a redirect by the link of `record`."""

    def __call__(
        self,
        response: Response,
        method: str,
        headers: Headers,
        peer: Peer,
        record: LinkRecord | None = None,
        flags: int = 0,
        /,
    ) -> Response:
        """Return `response`; `flags` are those of the click."""


def make_respond(counts: Counts, capture: Capture) -> Respond:
    """Return the function. A local cache hit has its own copy of it (`handler`), all others call it."""
    values = counts.values

    def respond(
        response: Response,
        method: str,
        headers: Headers,
        peer: Peer,
        record: LinkRecord | None = None,
        flags: int = 0,
        /,
    ) -> Response:
        template = response.template
        values[template.counter] += 1
        if template.is_click and record is not None:
            capture(record, method, headers, peer, flags)
        return response

    return respond
