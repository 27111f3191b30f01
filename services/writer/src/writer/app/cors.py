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
"""What a script may read of an answer beside the headers that it always may."""

MAX_AGE_S = 600
"""How long a browser may remember the answer to a preflight request."""

ROUTE = "cors-preflight"


class Cors(CORSMiddleware):
    """Lets scripts of `origins` call the application.

    It wraps the middleware: a preflight request carries no key, and a refusal of the middleware must be
    readable by the script, too. `Access-Control-Allow-Credentials` is never sent. A script sends
    its key in `Authorization`, which needs no credentials mode, and the API reads no cookie.
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
        """Answer a preflight request and count it: 200, or 400 for one that is not allowed."""
        began = time.perf_counter()
        response = super().preflight_response(request_headers)
        seconds = time.perf_counter() - began
        self._metrics.request(ROUTE, "OPTIONS", response.status_code, seconds)
        return response
