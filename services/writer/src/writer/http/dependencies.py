"""What endpoints ask of a request: its container, its caller, its media type; and how they answer."""

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Header, Request
from fastapi.routing import APIRoute
from pydantic import WithJsonSchema
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from shortcore.errors import Unauthorized, UnsupportedMediaType
from writer.app.middleware import CALLER, Caller
from writer.container import Container
from writer.http.bodies import BodyLimits
from writer.http.entity_tags import ETAGS_SCHEMA
from writer.http.idempotency import KEY, IdempotentRequest, StoredResponse, check_key

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


class JsonRoute(APIRoute):
    """A route whose body, if there is one, must say that it is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check the media type before the framework reads the body."""
        handle = super().get_route_handler()
        accepted = (JSON, MERGE_PATCH) if "PATCH" in (self.methods or ()) else (JSON,)

        async def checked(request: Request) -> Response:
            if self.body_field is not None and _has_body(request):
                refuse_coded(request)
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind not in accepted:
                    raise UnsupportedMediaType(f"Send the body as {' or '.join(accepted)}.")
                limits: BodyLimits = request.app.state.body_limits
                limits.check_json(await _whole_body(request), request.url.path)
            return await handle(request)

        return checked


def refuse_coded(request: Request) -> None:
    """Raise UnsupportedMediaType (RFC 9110, 15.5.16) for a compressed body: none is read here."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")


async def _whole_body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        return b""  # nobody waits for the answer


def _has_body(request: Request) -> bool:
    return (
        request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    )


async def container(request: Request) -> Container:
    """Return what the application is made of."""
    made: Container = request.app.state.container
    return made


async def idempotent_request(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable characters: the same request with the same key is"
            " done once and answered the same.",
        ),
        WithJsonSchema(
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": KEY.pattern}
        ),
    ] = None,
) -> IdempotentRequest | None:
    """Return the caller's idempotent, if it sent an Idempotency-Key."""
    if key is None:
        return None
    caller: Caller = request.scope[CALLER]
    return idempotent_request_of(
        key, caller, request.method, request.url.path, await request.body()
    )


def idempotent_request_of(
    key: str, caller: Caller, method: str, path: str, body: bytes
) -> IdempotentRequest:
    """Return the idempotent of a request that came with `key`; raises MalformedRequest."""
    check_key(key)
    if caller.key_id is None:
        raise Unauthorized("An Idempotency-Key needs an API key beside it.")
    digest = hashlib.sha256(f"{method} {path}\n".encode())
    digest.update(body)
    return IdempotentRequest(caller.key_id, key, digest.digest())


ContainerOf = Annotated[Container, Depends(container)]
IdempotencyKey = Annotated[IdempotentRequest | None, Depends(idempotent_request)]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description='Do it only to this version, such as `"42"` (ETag).'),
    WithJsonSchema(ETAGS_SCHEMA),
]


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `body` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, JSON)


def stored_response(answer: StoredResponse) -> Response:
    """Return an answer that was made, or kept, as bytes."""
    headers = answer.headers | ({"idempotency-replayed": "true"} if answer.replayed else {})
    return Response(answer.body, answer.status, headers, JSON)
