"""The HTTP endpoints of domains."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from writer.domains.repository import Domain
from writer.domains.schemas import CreateDomain, DomainPage, EditDomain, view_of
from writer.domains.service import DomainService
from writer.http.cursors import DomainCursor, encode, host_before
from writer.http.dependencies import IfMatch, provided
from writer.http.entity_tags import etag
from writer.http.fields import HostInPath
from writer.http.json_route import JsonRoute
from writer.http.paging import PageQuery, link_header
from writer.http.response_docs import documented
from writer.http.responses import json_response

router = APIRouter(prefix="/api/v1/domains", tags=["domains"], route_class=JsonRoute)

Domains = Annotated[DomainService, Depends(provided(DomainService))]


@router.get(
    "", summary="List domains", responses=documented(200, "DomainPage", 422, sends=("Link",))
)
async def list_domains(
    request: Request, domains: Domains, query: Annotated[PageQuery, Query()]
) -> Response:
    """Return a page of domains, ordered by host."""
    found = await domains.page(host_before(query.cursor), query.limit + 1)
    page, more = found[: query.limit], len(found) > query.limit
    cursor = encode(DomainCursor(page[-1].host)) if more else None
    view = DomainPage([view_of(domain, domains.default_host) for domain in page], cursor)
    return json_response(view, headers=link_header(request, cursor))


@router.post(
    "",
    summary="Add a domain",
    responses=documented(201, "DomainView", 409, 422, sends=("Location", "ETag")),
)
async def create_domain(domains: Domains, body: CreateDomain) -> Response:
    """Add a domain for short links."""
    return _one(domains, await domains.add(body), 201)


@router.get(
    "/{host}", summary="Get a domain", responses=documented(200, "DomainView", 404, sends=("ETag",))
)
async def get_domain(domains: Domains, host: HostInPath) -> Response:
    """Return one domain."""
    return _one(domains, await domains.get(host))


@router.patch(
    "/{host}",
    summary="Edit a domain",
    responses=documented(200, "DomainView", 404, 409, 412, 422, sends=("ETag",)),
)
async def edit_domain(
    domains: Domains, host: HostInPath, body: EditDomain, if_match: IfMatch = None
) -> Response:
    """Merge the body into the domain (RFC 7396)."""
    return _one(domains, await domains.edit(host, body, if_match))


@router.delete(
    "/{host}", summary="Remove a domain", status_code=204, responses=documented(204, None, 404, 409)
)
async def delete_domain(domains: Domains, host: HostInPath) -> Response:
    """Remove a domain that has no links and is not the default domain."""
    await domains.remove(host)
    return Response(status_code=204)


def _one(domains: DomainService, domain: Domain, status: int = 200) -> Response:
    view = view_of(domain, domains.default_host)
    headers = {"etag": etag(domain.version)} | ({"location": view.self} if status == 201 else {})  # noqa: PLR2004  # created
    return json_response(view, status, headers)
