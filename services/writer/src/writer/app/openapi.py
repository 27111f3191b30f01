"""The OpenAPI 3.1 document: adds responses and problems to what FastAPI generates."""

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from shortcore.links.record import REDIRECT_STATUSES
from writer import __doc__ as description
from writer.app.examples import EXAMPLES
from writer.http.response_docs import describe, describe_header

_LICENSE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
_SERVERS = [{"url": "/", "description": "The server that this document comes from."}]
_TAGS = [
    {
        "name": "links",
        "description": "Short links: create, read, list, edit, replace, delete, restore.",
    },
    {"name": "tags", "description": "The tags of links."},
    {"name": "domains", "description": "The hosts of short links."},
    {
        "name": "stats",
        "description": "Statistics: clicks, visits and visitors over time, and by country, referrer"
        " and other dimensions.",
    },
    {"name": "keys", "description": "API keys: make, list, revoke."},
    {"name": "webhooks", "description": "URLs to which events are sent, and their deliveries."},
]


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation in generated clients: `createLink` for `create_link`."""
    first, *others = route.name.split("_")
    return first + "".join(word.capitalize() for word in others)


def document(app: FastAPI, version: str, max_url: int, max_items: int) -> dict[str, Any]:
    """Return the whole document of a server with these settings.

    `max_url` is the maximum number of characters of a target, `max_items` that of links in a batch.
    """
    made = get_openapi(
        title="Shortlinks",
        version=version,
        description=description or "",
        routes=app.routes,
        servers=_SERVERS,
        tags=_TAGS,
        license_info=_LICENSE,
    )
    schemas = made["components"]["schemas"]
    _, views = msgspec.json.schema_components(
        [type(each) for each in EXAMPLES.values()], ref_template="#/components/schemas/{name}"
    )
    for view in views.values():
        _make_nullable_optional(view)
    schemas.update(views)
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [msgspec.to_builtins(example)]
    for schema in _within(schemas):
        if schema.get("format") == "uri" and "maxLength" in schema:  # of a request
            schema["maxLength"] = max_url
    _name_redirect_status(schemas)
    for schema in schemas.values():
        if "enum" in schema:
            schema["examples"] = schema["enum"][:1]
    schemas["BatchLinks"]["properties"]["items"]["maxItems"] = max_items
    for path in made["paths"].values():
        for operation in path.values():
            _complete(operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    return made


def _name_redirect_status(schemas: dict[str, Any]) -> None:
    """Give the redirect status one schema, because generated clients make a type of each schema."""
    statuses = [*REDIRECT_STATUSES]
    for schema in [*_within(schemas)]:
        if schema.get("enum") == statuses:
            kept = {name: schema[name] for name in ("description", "default") if name in schema}
            schema.clear()
            schema.update({"$ref": "#/components/schemas/RedirectStatus"} | kept)
    schemas["RedirectStatus"] = {
        "description": "The status code of the redirect.",
        "type": "integer",
        "enum": statuses,
    }


def _complete(operation: dict[str, Any]) -> None:
    """Add to an operation what the framework does not describe, or describes in its own format."""
    parameters = operation.get("parameters", ())
    responses = operation["responses"]
    for parameter in parameters:
        _without_null(parameter["schema"])
    if "application/json" in responses.get("422", {}).get("content", {}):
        responses["422"] = describe(422, "Problem")
    if any(each["name"] == "Idempotency-Key" for each in parameters):
        _describe_replays(responses)


def _within(schemas: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(schemas, dict):
        yield schemas
    for each in schemas.values() if isinstance(schemas, dict) else schemas:  # type: ignore[attr-defined]  # a list
        if isinstance(each, (dict, list)):
            yield from _within(each)


def _without_null(schema: dict[str, Any]) -> None:
    """Describe an optional parameter: it may be absent, but never null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def _make_nullable_optional(schema: dict[str, Any]) -> None:
    """Remove nullable fields from `required`, so that clients may leave them out."""
    for name, field in schema.get("properties", {}).items():
        if {"type": "null"} in field.get("anyOf", ()) and name in schema.get("required", ()):
            schema["required"].remove(name)


def _describe_replays(responses: dict[str, dict[str, Any]]) -> None:
    for status, response in responses.items():
        if status.startswith("2"):
            response["headers"]["Idempotency-Replayed"] = describe_header(
                "Idempotency-Replayed", always=False
            )
        elif status == "409":  # only if another request with the key is in progress
            response["headers"]["Retry-After"] = describe_header("Retry-After", always=False)
