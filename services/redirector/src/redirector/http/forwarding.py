"""Gives the application the host that a visitor asked for, as trusted proxies forward it."""

from redirector.container import Redirector
from redirector.domains.forwarded import MalformedError
from redirector.http.asgi import Application, Receive, Scope, Send
from shortcore.runtime.health import Phase


def forwarding(app: Application, redirector: Redirector) -> Application:
    """Return `app` with the forwarded host in place of Host; 400 for one that is malformed."""
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
