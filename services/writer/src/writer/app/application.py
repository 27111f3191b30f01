"""The HTTP application: routes, and every error as an RFC 9457 problem."""

import functools
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from shortcore.errors import (
    InternalError,
    MalformedRequest,
    MethodNotAllowed,
    RouteNotFound,
    ShortlinksError,
)
from writer.app.cors import Cors
from writer.app.fast_path import FastPath
from writer.app.head import HeadAsGet
from writer.app.middleware import ApiMiddleware, internal_error
from writer.app.openapi import document, operation_id
from writer.container import Container
from writer.domains.endpoints import router as domains
from writer.http.bodies import BodyLimits
from writer.http.caller import CALLER, Caller
from writer.http.dependencies import Services
from writer.http.problems import error_of_validation, problem_response
from writer.keys.endpoints import router as keys
from writer.links.endpoints import router as links
from writer.links.endpoints import tags_router as tags
from writer.stats.endpoints import router as stats
from writer.webhooks.endpoints import router as webhooks

_ROUTERS = (links, tags, domains, keys, stats, webhooks)


def create_app(container: Container) -> ASGIApp:
    """Return the ASGI application; the caller starts and closes `container`."""
    app = FastAPI(
        title="Shortlinks",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = Services(
        container.links,
        container.replacements,
        container.batches,
        container.imports,
        container.domains,
        container.keys,
        container.stats,
        container.webhooks,
    )
    settings = container.settings
    limits = BodyLimits.of(settings)
    app.state.body_limits = limits
    _add_routes(app)
    app.exception_handler(ShortlinksError)(_on_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(HTTPException)(_on_framework)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(Exception)(_on_internal_error)

    # Made at the start: the first request for it would block the event loop.
    made = _document(settings.target_max_length, settings.batch_max_items)
    app.openapi = lambda: made  # type: ignore[method-assign]  # the way to extend it that FastAPI documents
    inner = HeadAsGet(FastPath(app, container.drafter, container.links, container.batches, limits))
    middleware = ApiMiddleware(inner, container.authenticator, container.metrics, limits)
    origins = settings.writer_cors_origins
    return Cors(middleware, origins, container.metrics) if origins else middleware


def _add_routes(app: FastAPI) -> None:
    for router in _ROUTERS:
        app.include_router(router)


@functools.cache
def _document(max_url: int, max_items: int) -> dict[str, Any]:
    app = FastAPI(generate_unique_id_function=operation_id)
    _add_routes(app)
    return document(app, version("shortlinks-writer"), max_url, max_items)


async def _on_error(request: Request, error: ShortlinksError) -> Response:
    return _respond(request, error)


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    return _respond(request, error_of_validation(error.errors()))


async def _on_disconnect(request: Request, _: ClientDisconnect) -> Response:
    """Respond to a client that disconnected within its body, so that it counts as a client error."""
    return _respond(request, MalformedRequest("The body is incomplete."))


async def _on_internal_error(request: Request, _: Exception) -> Response:
    """Respond to an internal error; the framework raises it again, and the middleware logs it."""
    return _respond(request, internal_error())


async def _on_framework(request: Request, error: HTTPException) -> Response:
    """Respond to an error that the framework itself raises."""
    # The framework wraps errors that were raised while it read the body.
    if isinstance(error.__cause__, ShortlinksError):
        return _respond(request, error.__cause__)
    path = request.url.path
    if error.status_code == 405:  # noqa: PLR2004  # the path exists
        allow = ", ".join(sorted(_methods(request)))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        refused = MethodNotAllowed(f"{path} does not support {request.method}.")
        response = _respond(request, refused)
        response.headers["allow"] = allow  # RFC 9110, 15.5.6 requires it
        return response
    known: dict[int, ShortlinksError] = {
        400: MalformedRequest("The body is not valid JSON in UTF-8."),
        404: RouteNotFound(f"The API has no path {path}; see /api/openapi.json."),
    }
    found = known.get(error.status_code) or InternalError(str(error.detail))
    return _respond(request, found)


def _methods(request: Request) -> set[str]:
    # The framework knows the methods of one route, but several routes share a path.
    methods = {
        method
        for route in (*request.app.routes, *(each for router in _ROUTERS for each in router.routes))
        if isinstance(route, Route) and route.path_regex.match(request.url.path)
        for method in route.methods or ()
    }
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


def _respond(request: Request, error: ShortlinksError) -> Response:
    caller: Caller = request.scope[CALLER]
    body, headers = problem_response(error, caller.request_id)
    return Response(body, error.status, headers)
