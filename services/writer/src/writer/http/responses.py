"""Makes responses: a view as JSON, or a response stored for an Idempotency-Key."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from writer.http.idempotency import StoredResponse
from writer.http.json_route import JSON


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `body` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, JSON)


def stored_response(stored: StoredResponse) -> Response:
    """Return the response that `stored` holds as bytes."""
    headers = stored.headers | ({"idempotency-replayed": "true"} if stored.replayed else {})
    return Response(stored.body, stored.status, headers, JSON)
