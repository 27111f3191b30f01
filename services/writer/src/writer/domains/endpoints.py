"""HTTP for domains."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from writer.app.openapi import answers
from writer.container import Container
from writer.domains.repository import Domain
from writer.domains.schemas import CreateDomain, DomainPage, EditDomain, view_of
from writer.http.cursors import DomainCursor, encode, host_before
from writer.http.dependencies import ContainerOf, IfMatch, JsonRoute, json_response
from writer.http.entity_tags import etag
from writer.http.fields import HostInPath
from writer.http.paging import PageQuery, link_header

router = APIRouter(prefix="/api/v1/domains", tags=["domains"], route_class=JsonRoute)


@router.get("", summary="List domains", responses=answers(200, "DomainPage", 422, sends=("Link",)))
async def list_domains(
    request: Request, container: ContainerOf, query: Annotated[PageQuery, Query()]
) -> Response:
    """Return a page of domains, by host."""
    default = container.domain_cache.default_host
    domains = await container.domains.page(host_before(query.cursor), query.limit + 1)
    page, more = domains[: query.limit], len(domains) > query.limit
    cursor = encode(DomainCursor(page[-1].host)) if more else None
    view = DomainPage([view_of(domain, default) for domain in page], cursor)
    return json_response(view, headers=link_header(request, cursor))


@router.post(
    "",
    summary="Add a domain",
    responses=answers(201, "DomainView", 409, 422, sends=("Location", "ETag")),
)
async def add_domain(container: ContainerOf, body: CreateDomain) -> Response:
    """Add a host that short links can live on."""
    return _one(container, await container.domains.add(body), 201)


@router.get(
    "/{host}", summary="Get a domain", responses=answers(200, "DomainView", 404, sends=("ETag",))
)
async def get_domain(container: ContainerOf, host: HostInPath) -> Response:
    """Return one domain."""
    return _one(container, await container.domains.get(host))


@router.patch(
    "/{host}",
    summary="Edit a domain",
    responses=answers(200, "DomainView", 404, 409, 412, 422, sends=("ETag",)),
)
async def edit_domain(
    container: ContainerOf, host: HostInPath, body: EditDomain, if_match: IfMatch = None
) -> Response:
    """Merge the body into the domain (RFC 7396)."""
    return _one(container, await container.domains.edit(host, body, if_match))


@router.delete(
    "/{host}", summary="Remove a domain", status_code=204, responses=answers(204, None, 404, 409)
)
async def remove_domain(container: ContainerOf, host: HostInPath) -> Response:
    """Remove a host without links, which is not the default one."""
    await container.domains.remove(host)
    return Response(status_code=204)


def _one(container: Container, domain: Domain, status: int = 200) -> Response:
    view = view_of(domain, container.domain_cache.default_host)
    headers = {"etag": etag(domain.version)} | ({"location": view.self} if status == 201 else {})  # noqa: PLR2004  # created
    return json_response(view, status, headers)
