"""The OpenAPI 3.1 document: answers and problems beside the requests that FastAPI describes."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from writer import __doc__ as description
from writer.app.examples import EXAMPLES
from writer.http.problems import MEDIA_TYPE

_ALWAYS = (400, 401, 500, 503)
_PHRASES = {
    200: "Done.", 201: "Created.", 204: "Done; no body.", 304: "Not modified.",
    400: "The request cannot be read.", 401: "No valid API key.", 404: "Not found.",
    409: "It does not fit the present state.", 412: "If-Match names another version.",
    413: "The body is too large.", 415: "The body is of another type.", 422: "A rule is broken.",
    500: "A fault of ours.", 503: "A dependency is away; try again after Retry-After.",
}  # fmt: skip
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Cache-Control": ("Keep no copy.", {"const": "no-store"}),
    "ETag": (
        "The version in quotes, for If-Match and If-None-Match.",
        {"type": "string", "pattern": '^"[0-9]+"$'},
    ),
    "Idempotency-Replayed": (
        "The Idempotency-Key was used before, and this is the answer of then.",
        {"const": "true"},
    ),
    "Link": ("Where the list begins (`first`) and goes on (`next`): RFC 8288.", {"type": "string"}),
    "Location": ("The path of what was made.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("Seconds after which to try again.", {"type": "integer", "minimum": 0}),
    "WWW-Authenticate": ("What is asked for: a Bearer key.", {"type": "string"}),
    "X-Request-Id": ("The id in our logs: yours, if you sent one.", {"type": "string"}),
}
"""Every header of our own: what it says, and the schema of its value."""

Responses = dict[int | str, dict[str, Any]]


def answers(status: int, view: str | None, *others: int, sends: Sequence[str] = ()) -> Responses:
    """Describe the answers of a route: the good one, other good ones, and its problems.

    `sends` names the headers of the good ones.
    """
    described: Responses = {}
    for each in (status, *others, *_ALWAYS):
        good = each < 400  # noqa: PLR2004  # where refusals begin
        described[each] = _described(each, view if good else "Problem", sends if good else ())
    if 422 in described:  # noqa: PLR2004  # whoever reads fields reads a body
        described |= {413: _described(413, "Problem"), 415: _described(415, "Problem")}
    return described


def _described(status: int, view: str | None, sends: Sequence[str] = ()) -> dict[str, Any]:
    names = [*sends, "X-Request-Id", *(("Cache-Control",) if view == "Problem" else ())]
    names += {401: ["WWW-Authenticate"], 503: ["Retry-After"]}.get(status, [])
    phrase: dict[str, Any] = {
        "description": _PHRASES[status],
        "headers": {name: _header(name) for name in sorted(names)},
    }
    if view is not None and status != 304:  # noqa: PLR2004  # has no body
        media_type = MEDIA_TYPE if view == "Problem" else "application/json"
        phrase["content"] = {media_type: {"schema": {"$ref": f"#/components/schemas/{view}"}}}
    return phrase


def _header(name: str, *, always: bool = True) -> dict[str, Any]:
    says, schema = _HEADERS[name]
    return {"description": says, "required": always, "schema": schema}


def document(app: FastAPI, version: str, max_url: int, max_items: int) -> dict[str, Any]:
    """Return the whole document of a server with these settings.

    `max_url` is the number of characters of a target, `max_items` that of the links in a batch.
    """
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
    for schema in _within(schemas):
        if schema.get("format") == "uri":
            schema["maxLength"] = max_url
    schemas["BatchLinks"]["properties"]["items"]["maxItems"] = max_items
    for path in made["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                _without_null(parameter["schema"])
            refused = operation["responses"].get("422", {})
            if "application/json" in refused.get("content", {}):  # the framework's own shape
                operation["responses"]["422"] = _described(422, "Problem")
            if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ())):
                _describe_replays(operation["responses"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    return made


def _within(schemas: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(schemas, dict):
        yield schemas
    for each in schemas.values() if isinstance(schemas, dict) else schemas:  # type: ignore[attr-defined]  # a list
        if isinstance(each, (dict, list)):
            yield from _within(each)


def _without_null(schema: dict[str, Any]) -> None:
    """Describe an optional parameter as it is: absent, or of its type, but never null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def _describe_replays(responses: dict[str, dict[str, Any]]) -> None:
    for status, response in responses.items():
        if status.startswith("2"):
            response["headers"]["Idempotency-Replayed"] = _header(
                "Idempotency-Replayed", always=False
            )
        elif status == "409":  # only where another request with the key is being worked on
            response["headers"]["Retry-After"] = _header("Retry-After", always=False)
