"""The HTTP endpoints of links and tags."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from shortcore.errors import UnsupportedMediaType
from shortcore.links.rows import Format
from shortcore.links.status import LinkStatus
from writer.http.cursors import decode_cursor, encode_cursor
from writer.http.dependencies import (
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    provided,
)
from writer.http.entity_tags import etag, none_match
from writer.http.fields import (
    MAX_VISITS,
    CodeInPath,
    ExactInstant,
    Flag,
    Host,
    HostInPath,
    Number,
    Tag,
    Text,
)
from writer.http.json_route import JsonRoute, media_type, refuse_coded
from writer.http.paging import PageQuery, link_header
from writer.http.response_docs import documented
from writer.http.responses import json_response, stored_response
from writer.links import listing
from writer.links.batch import BatchService
from writer.links.imports import ImportService
from writer.links.replacement import Preconditions, ReplacementService
from writer.links.schemas import (
    BatchLinks,
    CreateLink,
    EditLink,
    LinkPage,
    ReplaceLink,
    TagCount,
    TagList,
    api_path,
)
from writer.links.service import LinkService
from writer.links.stored import StoredLink

router = APIRouter(prefix="/api/v1", tags=["links"], route_class=JsonRoute)
tags_router = APIRouter(prefix="/api/v1/tags", tags=["tags"], route_class=JsonRoute)

Links = Annotated[LinkService, Depends(provided(LinkService))]
Replacements = Annotated[ReplacementService, Depends(provided(ReplacementService))]
Batches = Annotated[BatchService, Depends(provided(BatchService))]
Imports = Annotated[ImportService, Depends(provided(ImportService))]

FORMATS = {
    "text/csv": Format.CSV,
    "application/jsonl": Format.JSONL,
    "application/x-ndjson": Format.JSONL,
}
"""The media types of an import."""


class _Code(StringConvertor):
    """A code in a path. It has no colon, because a colon precedes a verb such as `:restore`."""

    regex = "[^/:]+"


register_url_convertor("code", _Code())

_ONE = "/links/{domain}/{code:code}"


class ListQuery(PageQuery):
    """Which links to list. Unknown parameters are rejected."""

    domain: Host | None = None
    tag: list[Tag] = Field(default_factory=list, max_length=32, description="All of these.")
    status: list[LinkStatus] = Field(
        default_factory=list,
        max_length=len(LinkStatus),
        description="One of these; all but deleted links if absent.",
    )
    q: Text | None = Field(
        None, min_length=1, max_length=200, description="Part of the target, title or code."
    )
    created_after: ExactInstant | None = None
    created_before: ExactInstant | None = None
    min_visits: Number | None = Field(
        None, ge=0, le=MAX_VISITS, description="With at least so many counted visits."
    )
    sort: Literal["created_at", "-created_at", "updated_at", "-updated_at", "visits", "-visits"] = (
        "-created_at"
    )


@router.post(
    "/links",
    summary="Create a link",
    responses=documented(201, "LinkView", 200, 409, 422, sends=("Location", "ETag")),
)
async def create_link(links: Links, body: CreateLink, idempotent: IdempotencyKey) -> Response:
    """Create a link. The status is 200 if `find_if_exists` found an equal link."""
    return stored_response(await links.create(body, idempotent))


@router.post(
    "/links:batch", summary="Create many links", responses=documented(200, "BatchAnswer", 409, 422)
)
async def batch_create_links(
    batches: Batches, body: BatchLinks, idempotent: IdempotencyKey
) -> Response:
    """Create up to 1,000 links, with a result for each; with `atomic`, all or none."""
    return stored_response(await batches.create(body, idempotent))


@router.post(
    "/links:import",
    summary="Import links from CSV or JSONL",
    responses=documented(200, "ImportAnswer", 409, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "string"}, "example": example}
                for kind, example in (
                    ("text/csv", "target,code\nhttps://example.com/,spring-sale\n"),
                    ("application/jsonl", '{"target": "https://example.com/"}\n'),
                )
            },
        }
    },
)
async def import_links(request: Request, imports: Imports, idempotent: IdempotencyKey) -> Response:
    """Create up to 10,000 links from a CSV or JSONL file. The response lists failed rows."""
    refuse_coded(request)
    form = FORMATS.get(media_type(request))
    if form is None:
        raise UnsupportedMediaType(f"Send the body as {' or '.join(FORMATS)}.")
    return stored_response(await imports.create(await request.body(), form, idempotent))


@router.get(
    "/links", summary="List links", responses=documented(200, "LinkPage", 404, 422, sends=("Link",))
)
async def list_links(
    request: Request, links: Links, query: Annotated[ListQuery, Query()]
) -> Response:
    """Return a page of links; `next` and the header Link lead to the next page."""
    cursor = None if query.cursor is None else decode_cursor(query.cursor, query.sort)
    wanted = listing.Query(
        sort=query.sort,
        limit=query.limit,
        cursor=cursor,
        host=query.domain,
        tags=tuple(query.tag),
        statuses=tuple(dict.fromkeys(query.status)),
        text=query.q,
        created_after=query.created_after,
        created_before=query.created_before,
        min_visits=query.min_visits or 0,
    )
    found = await links.page(wanted)
    page, more = found[: query.limit], len(found) > query.limit
    cursor_on = _cursor_after(query.sort, page[-1]) if more else None
    view = LinkPage([links.view(link) for link in page], cursor_on)
    return json_response(view, headers=link_header(request, cursor_on))


@router.get(
    _ONE, summary="Get a link", responses=documented(200, "LinkView", 304, 404, sends=("ETag",))
)
async def get_link(
    links: Links,
    domain: HostInPath,
    code: CodeInPath,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return one link, deleted or not."""
    link = await links.get(domain, code)
    if none_match(if_none_match, link.version):
        return Response(status_code=304, headers={"etag": etag(link.version)})
    return _one(links, link)


@router.put(
    _ONE,
    summary="Create or replace a link",
    responses=documented(200, "LinkView", 201, 404, 409, 412, 422, sends=("Location", "ETag")),
)
async def replace_link(
    replacements: Replacements,
    links: Links,
    domain: HostInPath,
    code: CodeInPath,
    body: ReplaceLink,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Create or replace the link; absent fields get their defaults.

    With `If-None-Match: *`, it is only created. With `If-Match`, it is only replaced.
    """
    conditions = Preconditions(if_match, if_none_match)
    link, created = await replacements.replace(domain, code, body, conditions)
    headers = {"location": api_path(link.host, link.code), "etag": etag(link.version)}
    return json_response(links.view(link), 201 if created else 200, headers)


@router.patch(
    _ONE,
    summary="Edit a link",
    responses=documented(200, "LinkView", 404, 409, 412, 422, sends=("ETag",)),
)
async def edit_link(
    links: Links,
    domain: HostInPath,
    code: CodeInPath,
    body: EditLink,
    if_match: IfMatch = None,
) -> Response:
    """Merge the body into the link (RFC 7396)."""
    return _one(links, await links.edit(domain, code, body, if_match))


@router.delete(
    _ONE, summary="Delete a link", status_code=204, responses=documented(204, None, 404, 409, 412)
)
async def delete_link(
    links: Links,
    domain: HostInPath,
    code: CodeInPath,
    if_match: IfMatch = None,
    *,
    purge: Annotated[Flag, Query(description="Remove a deleted link for good.")] = False,
) -> Response:
    """Delete the link, or with `purge` remove a deleted link for good."""
    if purge:
        await links.purge(domain, code, if_match)
    else:
        await links.trash(domain, code, if_match)
    return Response(status_code=204)


@router.post(
    _ONE + ":restore",
    summary="Restore a link",
    responses=documented(200, "LinkView", 404, 412, sends=("ETag",)),
)
async def restore_link(
    links: Links, domain: HostInPath, code: CodeInPath, if_match: IfMatch = None
) -> Response:
    """Restore the link from the trash, unchanged."""
    return _one(links, await links.restore(domain, code, if_match))


@tags_router.get("", summary="List tags", responses=documented(200, "TagList"))
async def list_tags(links: Links) -> Response:
    """Return up to 10,000 tags with the number of links that are not in the trash."""
    counts = await links.tags()
    return json_response(TagList([TagCount(tag, count) for tag, count in counts]))


def _one(links: LinkService, link: StoredLink) -> Response:
    return json_response(links.view(link), headers={"etag": etag(link.version)})


def _cursor_after(sort: str, link: StoredLink) -> str:
    return encode_cursor(sort, listing.SORTS[sort].value(link), link.record.link_id)
