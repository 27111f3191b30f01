"""The caller of a request, which the middleware identifies for the code after it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Caller:
    """The sender of a request; the ASGI scope holds it under `CALLER`."""

    request_id: str
    key_id: int | None = None
    """The id of the API key; None before the key is checked, and on routes without a key."""


CALLER = "shortlinks.caller"
ROUTE = "shortlinks.route"
"""The path of the route, in the scope of a request that the framework did not route."""
