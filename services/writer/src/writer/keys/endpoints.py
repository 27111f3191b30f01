"""The HTTP endpoints of API keys."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from writer.http.cursors import KeyCursor, encode, key_before
from writer.http.dependencies import provided
from writer.http.fields import Number
from writer.http.json_route import JsonRoute
from writer.http.paging import PageQuery, link_header
from writer.http.response_docs import documented
from writer.http.responses import json_response
from writer.keys.schemas import CreateKey, KeyPage, view_of
from writer.keys.service import KeyService

router = APIRouter(prefix="/api/v1/keys", tags=["keys"], route_class=JsonRoute)

Keys = Annotated[KeyService, Depends(provided(KeyService))]
KeyId = Annotated[
    Number,
    Path(ge=1, lt=2**63),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 2**63 - 1}),
]


@router.get("", summary="List keys", responses=documented(200, "KeyPage", 422, sends=("Link",)))
async def list_keys(request: Request, keys: Keys, query: Annotated[PageQuery, Query()]) -> Response:
    """Return a page of keys without their secrets, oldest first, revoked ones included."""
    found = await keys.page(key_before(query.cursor), query.limit + 1)
    page, more = found[: query.limit], len(found) > query.limit
    cursor = encode(KeyCursor(page[-1].id)) if more else None
    view = KeyPage([view_of(key) for key in page], cursor)
    return json_response(view, headers=link_header(request, cursor))


@router.post(
    "",
    summary="Create a key",
    responses=documented(201, "KeyView", 422, sends=("Location", "Cache-Control")),
)
async def create_key(keys: Keys, body: CreateKey) -> Response:
    """Create a key. Only this response contains its text."""
    key, secret = await keys.create(body.name, body.expires_at)
    view = view_of(key, secret)
    return json_response(view, 201, {"location": view.self, "cache-control": "no-store"})


@router.delete(
    "/{key_id}", summary="Revoke a key", status_code=204, responses=documented(204, None, 404)
)
async def revoke_key(keys: Keys, key_id: KeyId) -> Response:
    """Revoke a key. Every writer rejects it within 5 s."""
    await keys.revoke(key_id)
    return Response(status_code=204)
