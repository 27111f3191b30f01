"""The fast path of creates: serves two routes without the framework, to save most of the time.

A request that is not valid goes to the framework with its body replayed, so that all errors are
worded in one place. The OpenAPI document describes the framework's routes.
"""

from collections.abc import Awaitable
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from shortcore.runtime.admin import Message, Receive, Scope, Send
from writer.http.bodies import BATCH, BodyLimits
from writer.http.caller import CALLER, ROUTE, Caller
from writer.http.dependencies import idempotent_request_of
from writer.http.idempotency import IdempotentRequest, StoredResponse
from writer.http.json_route import JSON
from writer.links.batch import BatchService
from writer.links.drafts import Drafter
from writer.links.schemas import BatchLinks, CreateLink
from writer.links.service import LinkService

LINKS: Final = "/api/v1/links"
_JSON = JSON.encode()


class FastPath:
    """Serves a well-formed create, and passes every other request on to the framework."""

    def __init__(
        self,
        app: Any,
        drafter: Drafter,
        links: LinkService,
        batches: BatchService,
        limits: BodyLimits,
    ) -> None:
        self._app = app
        self._drafter = drafter
        self._links = links
        self._batches = batches
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises the errors of the services, to which the middleware responds."""
        path = scope["path"]
        if scope["method"] != "POST" or path not in {LINKS, BATCH}:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"content-type") != _JSON or b"content-encoding" in headers:
            await self._app(scope, receive, send)
            return
        message = await receive()
        if message.get("more_body") or message["type"] != "http.request":
            message = await _whole(message, receive)
        body = message.get("body", b"")
        scope[ROUTE] = path
        self._limits.check_json(body, path)
        key = headers.get(b"idempotency-key")
        try:
            item = msgspec.json.decode(body)
            request = None if key is None else _idempotent(key, scope, body)
            response = self._respond(path, item, request)
        except (msgspec.DecodeError, ValidationError, RecursionError, UnicodeDecodeError):
            await self._app(scope, _replayed(message, receive), send)
            return
        await _send(await response, send)

    def _respond(
        self, path: str, item: object, request: IdempotentRequest | None
    ) -> Awaitable[StoredResponse]:
        """Validate `item` and return the work that responds to it; raises ValidationError."""
        # The models are the framework's own; only the way to them is shorter.
        if path == BATCH:
            return self._batches.create(BatchLinks.model_validate(item), request)
        if request is None and (draft := self._drafter.plain(item)) is not None:
            return self._links.create_draft(draft)
        return self._links.create(CreateLink.model_validate(item), request)


def _idempotent(key: bytes, scope: Scope, body: bytes) -> IdempotentRequest:
    caller: Caller = scope[CALLER]
    return idempotent_request_of(key.decode("latin-1"), caller, "POST", scope["path"], body)


async def _send(response: StoredResponse, send: Send) -> None:
    headers = [
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(response.body)),
        *((name.encode(), value.encode()) for name, value in response.headers.items()),
    ]
    if response.replayed:
        headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _whole(message: Message, receive: Receive) -> Message:
    """Return one message with the whole body; the middleware limits its length."""
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return {"type": "http.request", "body": b"".join(pieces)}
        message = await receive()
    return message  # the client has disconnected


def _replayed(message: Message, receive: Receive) -> Receive:
    left = [message]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay
