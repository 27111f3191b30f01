"""The JSON form of webhooks and deliveries in requests and responses."""

import enum
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema

from writer.http.fields import Input, Text, Visits
from writer.http.output_fields import AbsoluteUrl, Path, Time
from writer.webhooks.repository import Delivery, Webhook
from writer.worker.webhooks.messages import message_id

MAX_URL: Final = 2048

_READ_ONLY: Final = frozenset(
    {
        "id",
        "disabled_reason",
        "previous_secret_until",
        "version",
        "created_at",
        "updated_at",
        "self",
    }
)

EventType = Literal[
    "link.created",
    "link.updated",
    "link.deleted",
    "link.expired",
    "link.exhausted",
    "visits.threshold",
]

WebhookUrl = Annotated[
    Text,
    Field(min_length=1, max_length=MAX_URL),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": MAX_URL}),
]


def _distinct(events: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(events))


def _ascending(thresholds: list[int]) -> list[int]:
    return sorted(set(thresholds))


Events = Annotated[list[EventType], Field(min_length=1, max_length=16), AfterValidator(_distinct)]
Thresholds = Annotated[list[Visits], Field(max_length=16), AfterValidator(_ascending)]
Description = Annotated[Text, Field(max_length=200)]
Secret = Annotated[
    Text,
    Field(min_length=38, max_length=96),
    WithJsonSchema(
        {
            "type": "string",
            # 24 to 64 bytes in base64.
            "pattern": "^whsec_(?:[A-Za-z0-9+/]{4}){8,20}"
            "(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4}(?:[A-Za-z0-9+/]{2}==)?)?$",
        }
    ),
]


class DeliveryStatus(enum.StrEnum):
    """The state of a delivery: `pending` until it is delivered, or dead after the last attempt."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class CreateWebhook(Input):
    """A webhook to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/hooks/shortlinks", "events": ["link.created"]}
            ]
        }
    )
    read_only: ClassVar[frozenset[str]] = _READ_ONLY

    url: WebhookUrl = Field(description="Where events are sent: an https or http URL.")
    events: Events = Field(description="The events to send.")
    thresholds: Thresholds = Field(
        default_factory=list,
        description="Numbers of visits of a link that cause the event `visits.threshold`.",
    )
    description: Description | None = Field(None, description="A note for people.")
    enabled: bool = Field(True, description="Whether events are sent.")
    secret: Secret | None = Field(
        None, description="`whsec_` and 24 to 64 bytes in base64; generated if absent."
    )


_URL = TypeAdapter(WebhookUrl).json_schema()
_EVENTS = TypeAdapter(Events).json_schema()


class EditWebhook(Input):
    """A JSON merge patch (RFC 7396)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})
    read_only: ClassVar[frozenset[str]] = _READ_ONLY

    url: Annotated[WebhookUrl | None, WithJsonSchema(_URL)] = None
    events: Annotated[Events | None, WithJsonSchema(_EVENTS)] = None
    thresholds: Thresholds | None = None
    description: Description | None = None
    enabled: bool | None = Field(None, description="null enables it.")


class WebhookView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A webhook; only the responses to its creation and to a rotation have its `secret`."""

    id: int
    url: AbsoluteUrl
    events: list[EventType]
    thresholds: list[int]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    previous_secret_until: Time | None
    version: int
    created_at: Time
    updated_at: Time
    self: Path
    secret: str = ""


class WebhookList(msgspec.Struct, frozen=True):
    """All webhooks, oldest first."""

    items: list[WebhookView]


class DeliveryView(msgspec.Struct, frozen=True):
    """The delivery of one event; `id` is the header `webhook-id` of its requests."""

    id: str
    type: str
    status: DeliveryStatus
    attempts: int
    created_at: Time
    last_attempt_at: Time | None
    next_attempt_at: Time | None
    response_status: int | None
    error: str | None
    self: Path


class DeliveryPage(msgspec.Struct, frozen=True):
    """One page of deliveries, newest first; `next` is the cursor of the following one."""

    items: list[DeliveryView]
    next: str | None


class ReplayResult(msgspec.Struct, frozen=True):
    """The number of dead deliveries that are pending again."""

    replayed: int


def api_path(webhook_id: int) -> str:
    """Return the path of a webhook in this API."""
    return f"/api/v1/webhooks/{webhook_id}"


def view_of(webhook: Webhook, secret: str = "") -> WebhookView:
    """Return `webhook` as responses show it."""
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=[*webhook.events],  # type: ignore[list-item]  # only those can be stored
        thresholds=[*webhook.thresholds],
        description=webhook.description,
        enabled=webhook.enabled,
        disabled_reason=webhook.disabled_reason,
        previous_secret_until=webhook.previous_until,
        version=webhook.version,
        created_at=webhook.created_at,
        updated_at=webhook.updated_at,
        self=api_path(webhook.id),
        secret=secret,
    )


def view_of_delivery(webhook_id: int, delivery: Delivery) -> DeliveryView:
    """Return `delivery` as responses show it."""
    id_ = message_id(delivery.event_id, delivery.created_at)
    return DeliveryView(
        id=id_,
        type=delivery.type,
        status=DeliveryStatus(delivery.status),
        attempts=delivery.attempts,
        created_at=delivery.created_at,
        last_attempt_at=delivery.last_attempt_at,
        next_attempt_at=delivery.next_attempt_at,
        response_status=delivery.response_status,
        error=delivery.error,
        self=f"{api_path(webhook_id)}/deliveries/{id_}",
    )
