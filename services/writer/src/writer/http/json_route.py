"""A route that accepts only JSON bodies within the body limits."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from shortcore.errors import UnsupportedMediaType
from writer.http.bodies import BodyLimits

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


class JsonRoute(APIRoute):
    """Rejects a body without a JSON media type before the framework reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler, with checks of the body before it."""
        handle = super().get_route_handler()
        accepted = (JSON, MERGE_PATCH) if "PATCH" in (self.methods or ()) else (JSON,)

        async def checked(request: Request) -> Response:
            if self.body_field is not None and _has_body(request):
                refuse_coded(request)
                if media_type(request) not in accepted:
                    raise UnsupportedMediaType(f"Send the body as {' or '.join(accepted)}.")
                limits: BodyLimits = request.app.state.body_limits
                limits.check_json(await _whole_body(request), request.url.path)
            return await handle(request)

        return checked


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; "" without one."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_coded(request: Request) -> None:
    """Raise UnsupportedMediaType (RFC 9110, 15.5.16) for a compressed body."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")


async def _whole_body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        return b""  # the client no longer waits for a response


def _has_body(request: Request) -> bool:
    return (
        request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    )
