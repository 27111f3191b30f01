"""Answers preflight requests, and allows the origin of a request if it is in the list of origins.

Credentials are never allowed. The one cookie, that of a link's password, is for visitors who follow
the link themselves.
"""

from redirector.container import Redirector
from redirector.http.asgi import Application, Message, Receive, Scope, Send
from redirector.responses.cors import EXPOSED
from redirector.rules.fields import field_value
from shortcore.origins import ANY_ORIGIN
from shortcore.runtime.health import Phase

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"

MAX_AGE_S = 600
"""How long a browser may cache the response to a preflight request, in seconds."""

_VARY = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
_EMPTY = (b"content-length", b"0")
_ALLOWED = (
    (b"access-control-allow-methods", METHODS),
    # Nothing here reads them. The asterisk does not stand for Authorization (Fetch Standard).
    (b"access-control-allow-headers", b"*, Authorization"),
    (b"access-control-max-age", str(MAX_AGE_S).encode()),
    _VARY,
)


def cross_origin(app: Application, redirector: Redirector) -> Application:
    """Return `app`, which scripts of the allowed origins may then call."""
    allowed = frozenset(origin.encode() for origin in redirector.settings.redirector_cors_origins)
    every = ANY_ORIGIN.encode() in allowed
    counts = redirector.counts
    answered = counts.response("cors_preflight", 204)
    refused = counts.response("cors_preflight", 403)
    health = redirector.health

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        origin = field_value(scope["headers"], b"origin").encode("latin-1")
        if not origin:
            await app(scope, receive, send)
            return
        named = origin in allowed
        if scope["method"] == "OPTIONS" and field_value(
            scope["headers"], b"access-control-request-method"
        ):
            await preflight(origin, send, permitted=named or every)
            return

        async def send_to_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [
                    (b"access-control-allow-origin", origin),
                    (b"access-control-expose-headers", EXPOSED.encode()),
                ]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await app(scope, receive, send_to_origin if named else send)

    async def preflight(origin: bytes, send: Send, *, permitted: bool) -> None:
        if permitted:
            status, counter = 204, answered
            own = ANY_ORIGIN.encode() if every else origin
            # A 204 has no Content-Length (RFC 9110, section 8.6).
            headers = [(b"access-control-allow-origin", own), *_ALLOWED]
        else:
            status, counter = 403, refused
            headers = [_VARY, _EMPTY]
        if health.phase is Phase.DRAINING:
            headers.append((b"connection", b"close"))
        counts.add(counter)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return wrapped
