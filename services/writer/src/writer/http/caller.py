"""What the middleware finds out about a request, for all that handle the request after it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Caller:
    """Who sent a request: in the scope under `CALLER`."""

    request_id: str
    key_id: int | None = None
    """The id of the API key; None before the key is checked, and on routes without a key."""


CALLER = "shortlinks.caller"
ROUTE = "shortlinks.route"
"""The path of the route, in the scope of a request that the framework did not route."""
