"""Describes the responses of a route for the OpenAPI document: bodies, problems and headers."""

from collections.abc import Sequence
from typing import Any

from writer.http.problems import MEDIA_TYPE

_ALWAYS = (400, 401, 500, 503)
_DESCRIPTIONS = {
    200: "Done.", 201: "Created.", 202: "Accepted.", 204: "Done; no body.", 304: "Not modified.",
    400: "The request is malformed.", 401: "The API key is missing or invalid.",
    404: "Not found.", 409: "The request conflicts with the current state.",
    412: "If-Match or If-None-Match does not hold.", 413: "The body is too large.",
    415: "The media type of the body is not supported.", 422: "The request breaks a rule.",
    500: "An internal error.",
    503: "A dependency is unavailable; try again after Retry-After.",
}  # fmt: skip
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Cache-Control": ("The response must not be cached.", {"const": "no-store"}),
    "ETag": (
        "The version in quotes, for If-Match and If-None-Match.",
        {"type": "string", "pattern": '^"[0-9]+"$'},
    ),
    "Idempotency-Replayed": (
        "This is the stored response of an earlier request with the same Idempotency-Key.",
        {"const": "true"},
    ),
    "Link": ("The `first` and the `next` page of the list (RFC 8288).", {"type": "string"}),
    "Location": ("The path of the created object.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": (
        "Seconds to wait before the next attempt.",
        {"type": "integer", "minimum": 0},
    ),
    "Vary": ("The response depends on this header of the request.", {"type": "string"}),
    "WWW-Authenticate": ("The required scheme: Bearer.", {"type": "string"}),
    "X-Request-Id": (
        "The request's id in the logs: the one sent with the request, or a new one.",
        {"type": "string"},
    ),
}
"""Every response header of the API: its description, and the schema of its value."""

ResponseDocs = dict[int | str, dict[str, Any]]


def documented(
    status: int, view: str | None, *others: int, sends: Sequence[str] = ()
) -> ResponseDocs:
    """Describe the responses of a route: `status`, the `others`, and those that every route has.

    `view` names the schema of a successful body, `sends` the headers of a successful response.
    """
    docs: ResponseDocs = {}
    for each in (status, *others, *_ALWAYS):
        success = each < 400  # noqa: PLR2004  # the first status of an error
        docs[each] = describe(each, view if success else "Problem", sends if success else ())
    if 422 in docs:  # noqa: PLR2004  # a route that validates fields reads a body
        docs |= {413: describe(413, "Problem"), 415: describe(415, "Problem")}
    return docs


def describe(status: int, view: str | None, sends: Sequence[str] = ()) -> dict[str, Any]:
    """Describe one response with a body of the schema `view`."""
    names = [*sends, "X-Request-Id", *(("Cache-Control",) if view == "Problem" else ())]
    names += {401: ["WWW-Authenticate"], 503: ["Retry-After"]}.get(status, [])
    described: dict[str, Any] = {
        "description": _DESCRIPTIONS[status],
        "headers": {name: describe_header(name) for name in sorted(names)},
    }
    if view is not None and status != 304:  # noqa: PLR2004  # Not Modified has no body
        media_type = MEDIA_TYPE if view == "Problem" else "application/json"
        described["content"] = {media_type: {"schema": {"$ref": f"#/components/schemas/{view}"}}}
    return described


def describe_header(name: str, *, always: bool = True) -> dict[str, Any]:
    """Describe a header; `always` says that every such response has it."""
    description, schema = _HEADERS[name]
    return {"description": description, "required": always, "schema": schema}
