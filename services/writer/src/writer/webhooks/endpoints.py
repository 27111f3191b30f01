"""The HTTP endpoints of webhooks."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field, WithJsonSchema
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from writer.http.cursors import DeliveryCursor, delivery_before, encode
from writer.http.dependencies import IfMatch, provided
from writer.http.entity_tags import etag
from writer.http.fields import Number
from writer.http.json_route import JsonRoute
from writer.http.paging import PageQuery, link_header
from writer.http.response_docs import documented
from writer.http.responses import json_response
from writer.webhooks.repository import Webhook
from writer.webhooks.schemas import (
    CreateWebhook,
    DeliveryPage,
    DeliveryStatus,
    EditWebhook,
    ReplayResult,
    WebhookList,
    view_of,
    view_of_delivery,
)
from writer.webhooks.service import WebhookService

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], route_class=JsonRoute)

Webhooks = Annotated[WebhookService, Depends(provided(WebhookService))]
WebhookId = Annotated[
    Number,
    Path(ge=1, lt=2**63),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 2**63 - 1}),
]
DeliveryId = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^evt_[0-9]+_[0-9a-f]+$"})]


class _Id(StringConvertor):
    """An id in a path. It has no colon, because a colon precedes a verb such as `:test`."""

    regex = "[^/:]+"


register_url_convertor("webhook_id", _Id())

_ONE = "/{webhook_id:webhook_id}"


class DeliveryQuery(PageQuery):
    """The requested page of deliveries."""

    status: DeliveryStatus | None = Field(None, description="Only deliveries in this state.")


@router.get("", summary="List webhooks", responses=documented(200, "WebhookList"))
async def list_webhooks(webhooks: Webhooks) -> Response:
    """Return all webhooks without their secrets, oldest first."""
    return json_response(WebhookList([view_of(each) for each in await webhooks.all()]))


@router.post(
    "",
    summary="Create a webhook",
    responses=documented(201, "WebhookView", 409, 422, sends=("Location", "ETag", "Cache-Control")),
)
async def create_webhook(webhooks: Webhooks, body: CreateWebhook) -> Response:
    """Create a webhook. Only this response contains its secret."""
    webhook, secret = await webhooks.create(body)
    view = view_of(webhook, secret)
    headers = {
        "location": view.self,
        "etag": etag(webhook.version),
        "cache-control": "no-store",
    }
    return json_response(view, 201, headers)


@router.get(
    _ONE, summary="Get a webhook", responses=documented(200, "WebhookView", 404, sends=("ETag",))
)
async def get_webhook(webhooks: Webhooks, webhook_id: WebhookId) -> Response:
    """Return one webhook without its secret."""
    return _one(await webhooks.get(webhook_id))


@router.patch(
    _ONE,
    summary="Edit a webhook",
    responses=documented(200, "WebhookView", 404, 412, 422, sends=("ETag",)),
)
async def edit_webhook(
    webhooks: Webhooks, webhook_id: WebhookId, body: EditWebhook, if_match: IfMatch = None
) -> Response:
    """Merge the body into the webhook (RFC 7396)."""
    return _one(await webhooks.edit(webhook_id, body, if_match))


@router.delete(
    _ONE, summary="Delete a webhook", status_code=204, responses=documented(204, None, 404)
)
async def delete_webhook(webhooks: Webhooks, webhook_id: WebhookId) -> Response:
    """Delete the webhook with its deliveries."""
    await webhooks.remove(webhook_id)
    return Response(status_code=204)


@router.post(
    _ONE + ":rotate-secret",
    summary="Rotate the secret of a webhook",
    responses=documented(200, "WebhookView", 404, sends=("ETag", "Cache-Control")),
)
async def rotate_webhook_secret(webhooks: Webhooks, webhook_id: WebhookId) -> Response:
    """Make a new secret, which only this response contains; both secrets sign for 24 hours."""
    webhook, secret = await webhooks.rotate_secret(webhook_id)
    headers = {"etag": etag(webhook.version), "cache-control": "no-store"}
    return json_response(view_of(webhook, secret), headers=headers)


@router.post(
    _ONE + ":test",
    summary="Test a webhook",
    status_code=202,
    responses=documented(202, "DeliveryView", 404, 409),
)
async def test_webhook(webhooks: Webhooks, webhook_id: WebhookId) -> Response:
    """Send the event `ping` to the webhook."""
    return json_response(view_of_delivery(webhook_id, await webhooks.test(webhook_id)), 202)


@router.get(
    _ONE + "/deliveries",
    summary="List the deliveries of a webhook",
    responses=documented(200, "DeliveryPage", 404, 422, sends=("Link",)),
)
async def list_deliveries(
    request: Request,
    webhooks: Webhooks,
    webhook_id: WebhookId,
    query: Annotated[DeliveryQuery, Query()],
) -> Response:
    """Return a page of deliveries, newest first."""
    before = delivery_before(query.cursor)
    found = await webhooks.deliveries(webhook_id, before, query.status, query.limit + 1)
    page, more = found[: query.limit], len(found) > query.limit
    cursor = encode(DeliveryCursor(page[-1].event_id)) if more else None
    view = DeliveryPage([view_of_delivery(webhook_id, each) for each in page], cursor)
    return json_response(view, headers=link_header(request, cursor))


@router.post(
    _ONE + "/deliveries:replay",
    summary="Replay the dead deliveries of a webhook",
    status_code=202,
    responses=documented(202, "ReplayResult", 404),
)
async def replay_dead_deliveries(webhooks: Webhooks, webhook_id: WebhookId) -> Response:
    """Deliver up to 10,000 dead deliveries again, the oldest first, each with its id."""
    return json_response(ReplayResult(await webhooks.replay_dead(webhook_id)), 202)


@router.post(
    _ONE + "/deliveries/{delivery_id}:replay",
    summary="Replay a delivery",
    status_code=202,
    responses=documented(202, "DeliveryView", 404),
)
async def replay_delivery(
    webhooks: Webhooks, webhook_id: WebhookId, delivery_id: DeliveryId
) -> Response:
    """Deliver an event again, with the same id; has no effect if it is pending."""
    delivery = await webhooks.replay(webhook_id, delivery_id)
    return json_response(view_of_delivery(webhook_id, delivery), 202)


def _one(webhook: Webhook) -> Response:
    return json_response(view_of(webhook), headers={"etag": etag(webhook.version)})
