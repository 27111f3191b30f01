"""HTTP for API keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from writer.app.openapi import answers
from writer.http.cursors import KeyCursor, encode, key_before
from writer.http.dependencies import ContainerOf, JsonRoute, json_response
from writer.http.fields import Number
from writer.http.paging import PageQuery, link_header
from writer.keys.schemas import CreateKey, KeyPage, view_of

router = APIRouter(prefix="/api/v1/keys", tags=["keys"], route_class=JsonRoute)

KeyId = Annotated[
    Number,
    Path(ge=1, lt=2**63),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 2**63 - 1}),
]


@router.get("", summary="List keys", responses=answers(200, "KeyPage", 422, sends=("Link",)))
async def list_keys(
    request: Request, container: ContainerOf, query: Annotated[PageQuery, Query()]
) -> Response:
    """Return a page of keys without their secrets, oldest first, revoked ones included."""
    keys = await container.keys.page(key_before(query.cursor), query.limit + 1)
    page, more = keys[: query.limit], len(keys) > query.limit
    cursor = encode(KeyCursor(page[-1].id)) if more else None
    view = KeyPage([view_of(key) for key in page], cursor)
    return json_response(view, headers=link_header(request, cursor))


@router.post(
    "",
    summary="Make a key",
    responses=answers(201, "KeyView", 422, sends=("Location", "Cache-Control")),
)
async def create_key(container: ContainerOf, body: CreateKey) -> Response:
    """Make a key; this answer is the only one that shows its text."""
    key, secret = await container.keys.create(body.name, body.expires_at)
    view = view_of(key, secret)
    return json_response(view, 201, {"location": view.self, "cache-control": "no-store"})


@router.delete(
    "/{key_id}", summary="Revoke a key", status_code=204, responses=answers(204, None, 404)
)
async def revoke_key(container: ContainerOf, key_id: KeyId) -> Response:
    """Revoke a key for ever; every writer refuses it within 5 s."""
    await container.keys.revoke(key_id)
    return Response(status_code=204)
