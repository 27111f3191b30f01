"""The two routes that create links, answered ahead of the framework, which costs most of a create.

Whatever is not plainly right goes to the framework with its body replayed, so that there is one
place that words refusals; the OpenAPI document describes the routes from there, too.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from shortcore.runtime.admin import Message, Receive, Scope, Send
from writer.http.bodies import BATCH, BodyLimits
from writer.http.caller import CALLER, ROUTE, Caller
from writer.http.dependencies import idempotent_request_of
from writer.http.idempotency import StoredResponse
from writer.http.json_route import JSON
from writer.links.batch import BatchService
from writer.links.schemas import BatchLinks, CreateLink
from writer.links.service import LinkService

_LINKS = "/api/v1/links"
_TYPE = (b"content-type", JSON.encode())


class FastPath:
    """Wraps the application: serves a well-formed create, and passes on all else."""

    def __init__(
        self, app: Any, links: LinkService, batches: BatchService, limits: BodyLimits
    ) -> None:
        self._app = app
        self._limits = limits
        self._links = links
        self._work: Mapping[str, Callable[..., Coroutine[Any, Any, StoredResponse]]] = {
            _LINKS: links.create,
            BATCH: batches.create,
        }
        self._models: Mapping[str, type[CreateLink | BatchLinks]] = {
            _LINKS: CreateLink,
            BATCH: BatchLinks,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises what the services raise, which the middleware answers."""
        path = scope["path"]
        model = self._models.get(path) if scope["method"] == "POST" else None
        if model is None:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"content-type") != _TYPE[1] or b"content-encoding" in headers:
            await self._app(scope, receive, send)
            return
        message = await receive()
        if message.get("more_body") or message["type"] != "http.request":
            message = await _whole(message, receive)
        body = message.get("body", b"")
        key = headers.get(b"idempotency-key")
        plain = None
        scope[ROUTE] = path
        self._limits.check_json(body, path)
        try:
            item = msgspec.json.decode(body)
            if path == _LINKS and key is None:
                plain = self._links.plain(item)
            # The model is the framework's own: only the way to it is shorter.
            asked = plain or model.model_validate(item)
        except (msgspec.DecodeError, ValidationError, RecursionError, UnicodeDecodeError):
            await self._app(scope, _replayed(message, receive), send)
            return
        if plain is not None:
            await _send(await self._links.place(plain), send)
            return
        caller: Caller = scope[CALLER]
        idempotent = None
        if key is not None:
            idempotent = idempotent_request_of(key.decode("latin-1"), caller, "POST", path, body)
        answer = await self._work[path](asked, idempotent)
        await _send(answer, send)


async def _send(answer: StoredResponse, send: Send) -> None:
    headers = [
        _TYPE,
        (b"content-length", b"%d" % len(answer.body)),
        *((name.encode(), value.encode()) for name, value in answer.headers.items()),
    ]
    if answer.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _whole(message: Message, receive: Receive) -> Message:
    """Return one message with the whole body, whose length the middleware bounds."""
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return {"type": "http.request", "body": b"".join(pieces)}
        message = await receive()
    return message  # the client went away


def _replayed(message: Message, receive: Receive) -> Receive:
    left = [message]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay
