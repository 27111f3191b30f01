"""Cross-origin calls of the API (Fetch Standard, CORS), for the origins that a setting names."""

import time

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from writer.metrics import Metrics

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

REQUEST_HEADERS = ("Authorization", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id")

EXPOSED_HEADERS = (
    "Content-Disposition", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit",
    "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-Id",
)  # fmt: skip
"""Response headers that a script may read in addition to the safelisted ones."""

MAX_AGE_S = 600
"""How long a browser may cache the response to a preflight request, in seconds."""

ROUTE = "cors-preflight"


class Cors(CORSMiddleware):
    """Lets scripts of `origins` call the application.

    It is outside of ApiMiddleware: a preflight request has no API key, and scripts must be able to
    read the error responses of the middleware. `Access-Control-Allow-Credentials` is never sent: a
    script sends its key in `Authorization`, which needs no credentials mode, and the API reads no
    cookie.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str], metrics: Metrics) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=MAX_AGE_S,
        )
        self._metrics = metrics

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight request and count it: 200, or 400 if it is not allowed."""
        began = time.perf_counter()
        response = super().preflight_response(request_headers)
        seconds = time.perf_counter() - began
        self._metrics.request(ROUTE, "OPTIONS", response.status_code, seconds)
        return response
