"""The dependencies of endpoints: services by their type, the idempotent request, `If-Match`."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Header, Request
from pydantic import WithJsonSchema

from shortcore.errors import Unauthorized
from writer.http.caller import CALLER, Caller
from writer.http.entity_tags import ETAGS_SCHEMA
from writer.http.idempotency import KEY, IdempotentRequest, check_key

Service = TypeVar("Service")


class Services:
    """The services that endpoints depend on; there is one of each class."""

    def __init__(self, *services: object) -> None:
        self._by_class = {type(service): service for service in services}

    def get(self, kind: type[Service]) -> Service:
        """Return the service of class `kind`; raises KeyError if there is none."""
        return cast("Service", self._by_class[kind])


def provided(kind: type[Service]) -> Callable[[Request], Coroutine[Any, Any, Service]]:
    """Return a dependency that gives an endpoint the application's service of class `kind`."""

    async def provide(request: Request) -> Service:
        services: Services = request.app.state.services
        return services.get(kind)

    return provide


async def idempotent_request(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable ASCII characters. A repeated request with the same"
            " key is processed once and gets the same response.",
        ),
        WithJsonSchema(
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": KEY.pattern}
        ),
    ] = None,
) -> IdempotentRequest | None:
    """Return the request with its key, or None if it has no Idempotency-Key."""
    if key is None:
        return None
    caller: Caller = request.scope[CALLER]
    return idempotent_request_of(
        key, caller, request.method, request.url.path, await request.body()
    )


def idempotent_request_of(
    key: str, caller: Caller, method: str, path: str, body: bytes
) -> IdempotentRequest:
    """Return a request with its key. Raises MalformedRequest for an invalid key."""
    check_key(key)
    if caller.key_id is None:
        raise Unauthorized("An Idempotency-Key requires an API key.")
    digest = hashlib.sha256(f"{method} {path}\n".encode())
    digest.update(body)
    return IdempotentRequest(caller.key_id, key, digest.digest())


IdempotencyKey = Annotated[IdempotentRequest | None, Depends(idempotent_request)]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="Do it only if there is another version; with `*`, only if there is none.",
    ),
    WithJsonSchema(ETAGS_SCHEMA),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match", description='Only if this is the current version, such as `"42"` (ETag).'
    ),
    WithJsonSchema(ETAGS_SCHEMA),
]
