"""ASGI middleware that asks clients to close their connections while the process drains."""

from typing import Any

from shortcore.runtime.health import Health, Phase


def close_while_draining(app: Any, health: Health) -> Any:
    """Return `app` with the header `Connection: close` on its responses during the drain.

    A client that kept its connection would send its next request to a process that has ended.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_close(message: Any) -> None:
            if message["type"] == "http.response.start" and health.phase is Phase.DRAINING:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_with_close)

    return wrapped
