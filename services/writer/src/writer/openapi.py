"""The OpenAPI 3.1 document: answers and problems beside the requests that FastAPI describes."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from writer import __doc__ as description
from writer.examples import EXAMPLES
from writer.problems import MEDIA_TYPE

_ALWAYS = (400, 401, 500, 503)
_PHRASES = {
    200: "Done.", 201: "Created.", 204: "Done; no body.", 304: "Not modified.",
    400: "The request cannot be read.", 401: "No valid API key.", 404: "Not found.",
    409: "It does not fit the present state.", 412: "If-Match names another version.",
    413: "The body is too large.", 415: "The body is of another type.", 422: "A rule is broken.",
    500: "A fault of ours.", 503: "A dependency is away; try again after Retry-After.",
}  # fmt: skip

Responses = dict[int | str, dict[str, Any]]


def answers(status: int, view: str | None, *others: int) -> Responses:
    """Describe the answers of a route: the good one, other good ones, and its problems."""
    described: Responses = {status: _described(status, view)}
    for other in (*others, *_ALWAYS):
        described[other] = _described(other, view if other < 300 else "Problem")  # noqa: PLR2004  # good ones
    if 422 in described:  # noqa: PLR2004  # whoever reads fields reads a body
        described |= {413: _described(413, "Problem"), 415: _described(415, "Problem")}
    return described


def _described(status: int, view: str | None) -> dict[str, Any]:
    phrase: dict[str, Any] = {"description": _PHRASES[status]}
    if view is not None and status != 304:  # noqa: PLR2004  # has no body
        media_type = MEDIA_TYPE if view == "Problem" else "application/json"
        phrase["content"] = {media_type: {"schema": {"$ref": f"#/components/schemas/{view}"}}}
    return phrase


def document(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the whole document."""
    made = get_openapi(
        title="Shortlinks", version=version, description=description or "", routes=app.routes
    )
    schemas = made["components"]["schemas"]
    _, views = msgspec.json.schema_components(
        [type(each) for each in EXAMPLES.values()], ref_template="#/components/schemas/{name}"
    )
    schemas.update(views)
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [msgspec.to_builtins(example)]
    for path in made["paths"].values():
        for operation in path.values():
            refused = operation["responses"].get("422", {})
            if "application/json" in refused.get("content", {}):  # the framework's own shape
                operation["responses"]["422"] = _described(422, "Problem")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    return made
