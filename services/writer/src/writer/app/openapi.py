"""The OpenAPI 3.1 document: answers and problems beside the requests that FastAPI describes."""

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from writer import __doc__ as description
from writer.app.examples import EXAMPLES
from writer.http.response_docs import describe, describe_header


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
                operation["responses"]["422"] = describe(422, "Problem")
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
            response["headers"]["Idempotency-Replayed"] = describe_header(
                "Idempotency-Replayed", always=False
            )
        elif status == "409":  # only where another request with the key is being worked on
            response["headers"]["Retry-After"] = describe_header("Retry-After", always=False)
