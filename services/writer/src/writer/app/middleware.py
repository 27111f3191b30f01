"""The middleware of every request: request id, API key, limits, error responses, log, metrics.

It is plain ASGI outside of the framework, so that it covers every route, and so that a rejected
request costs little: its body is not read.
"""

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

import structlog

from shortcore.errors import (
    BodyTooLarge,
    FieldError,
    InternalError,
    MalformedRequest,
    ShortlinksError,
)
from shortcore.runtime.admin import Message, Receive, Scope, Send
from writer.http.bodies import BodyLimits
from writer.http.caller import CALLER, ROUTE, Caller
from writer.http.problems import invalid, problem_response
from writer.keys.authenticator import ApiKeyAuthenticator
from writer.metrics import Metrics

_logger = logging.getLogger(__name__)
log = structlog.stdlib.get_logger(__name__)

PROTECTED = "/api/v1"

MAX_PARAMETERS = 100
"""Maximum number of query parameters; a list of links with every filter has fewer than 50."""

_SINGLE_FIELDS = (b"authorization", b"content-type", b"idempotency-key")
"""Header fields that a request may have only once, as their values are not lists (RFC 9110, 5.3)."""

_LENGTH_DIGITS = 20
"""Digits of the largest Content-Length that the HTTP parser accepts (64 bits)."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=-]{1,128}")


class ApiMiddleware:
    """Authenticates a request, limits it, and responds to errors of the application."""

    def __init__(
        self, app: Any, keys: ApiKeyAuthenticator, metrics: Metrics, limits: BodyLimits
    ) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        caller = Caller(_request_id(headers.get(b"x-request-id")))
        scope[CALLER] = caller
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=caller.request_id)
        response = _Response(send, caller.request_id)
        try:
            if len(headers) < len(scope["headers"]):
                _check_single_fields(scope["headers"])
            if scope["path"].startswith(PROTECTED):
                authorization = headers.get(b"authorization")
                caller.key_id = await self._keys.authenticate(
                    None if authorization is None else authorization.decode("latin-1")
                )
            _check_query(scope["query_string"])
            limit = self._limits.bytes_at(scope["path"])
            bounded = _bounded(headers.get(b"content-length"), receive, limit)
            await self._app(scope, bounded, response.send)
        except ShortlinksError as error:
            await response.send_error(error)
        except Exception:
            log.exception("the request failed")
            await response.send_error(internal_error())
        finally:
            self._record(scope, response.status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = (
            str(scope.get(ROUTE)) if ROUTE in scope else getattr(scope.get("route"), "path", "none")
        )
        self._metrics.request(route, scope["method"], status, seconds)
        if not _logger.isEnabledFor(logging.INFO):
            return  # structlog would format the line first
        log.info(
            "request",
            method=scope["method"],
            route=route,
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
        )


class _Response:
    """Adds the request id to a response and keeps its status; 0 until it starts."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.status = 0
        self._send = send
        self._request_id = request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self._request_id.encode()),
            ]
        await self._send(message)

    async def send_error(self, error: ShortlinksError) -> None:
        if self.status:
            return  # the response has started: the server closes the connection
        body, headers = problem_response(error, self._request_id)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(sent: bytes | None) -> str:
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent.decode()
    return secrets.token_hex(16)


def internal_error() -> InternalError:
    """Return the error for the client, without details of the cause."""
    return InternalError("An internal error occurred; the log has details under the request id.")


def _check_single_fields(headers: Iterable[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE_FIELDS:
        if names.count(name) > 1:
            raise MalformedRequest(f"Send the header {name.decode().title()} only once.")


def _check_query(query: bytes) -> None:
    if query.count(b"&") >= MAX_PARAMETERS:
        detail = f"A query has at most {MAX_PARAMETERS} parameters."
        raise invalid([FieldError("?", "length", detail)])


def _bounded(content_length: bytes | None, receive: Receive, limit: int) -> Receive:
    too_large = BodyTooLarge(f"The body may have at most {limit} bytes.")
    if content_length is not None:
        if not content_length.isdigit():
            raise MalformedRequest("Content-Length is not a number.")
        # int() rejects numbers with thousands of digits; leading zeros are allowed.
        digits = content_length.lstrip(b"0")
        if len(digits) > _LENGTH_DIGITS or int(digits or b"0") > limit:
            raise too_large
    left = limit

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large
        return message

    return bounded
