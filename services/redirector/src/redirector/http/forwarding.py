"""ASGI middleware that replaces Host by the host that trusted proxies forward."""

from redirector.container import Redirector
from redirector.domains.forwarded import MalformedError
from redirector.http.asgi import Application, Receive, Scope, Send
from shortcore.runtime.health import Phase


def forwarding(app: Application, redirector: Redirector) -> Application:
    """Return `app`, which gets the forwarded host as Host; a malformed one gets 400."""
    forwarded = redirector.forwarded
    malformed = redirector.responses.malformed_host
    values = redirector.counts.values
    health = redirector.health

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            fields = forwarded(list(scope["headers"]), scope.get("client"))
        except MalformedError:
            values[malformed.slot] += 1
            headers = list(malformed.headers)
            if health.phase is Phase.DRAINING:
                headers.append((b"connection", b"close"))
            start = {"type": "http.response.start", "status": malformed.status}
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": malformed.body})
        else:
            await app({**scope, "headers": fields}, receive, send)

    return wrapped
