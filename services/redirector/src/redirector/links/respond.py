"""What every response passes once before it is sent: it is counted, and its click is captured."""

from typing import Protocol

from redirector.clicks.capture import Capture
from redirector.counts import Counts
from redirector.links.request import Headers, Peer
from redirector.responses.responses import Response


class Respond(Protocol):
    """Counts a response, and captures its click if a link is followed."""

    def __call__(
        self,
        response: Response,
        method: str,
        host: str,
        target: str,
        headers: Headers,
        peer: Peer,
        /,
    ) -> Response:
        """Return `response`."""


def make_respond(counts: Counts, capture: Capture) -> Respond:
    """Return the function. A local cache hit has its own copy of it (`handler`), all others call it."""
    values = counts.values

    def respond(
        response: Response,
        method: str,
        host: str,
        target: str,
        headers: Headers,
        peer: Peer,
        /,
    ) -> Response:
        values[response.template.counter] += 1
        if response.link_id >= 0:
            capture(response, method, host, target, headers, peer)
        return response

    return respond
