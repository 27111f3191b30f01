"""Supports HEAD for every GET route: the same headers without the body (RFC 9110, 9.3.2)."""

from typing import Any

from shortcore.runtime.admin import Message, Receive, Scope, Send
from writer.http.caller import ROUTE


class HeadAsGet:
    """Passes HEAD requests to the application as GET."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, send_head)
        finally:
            # The middleware needs the route for its metrics.
            scope.update({name: inner[name] for name in ("route", ROUTE) if name in inner})
