"""What a webhook receives: the JSON of an event, and the headers that Standard Webhooks defines."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from standardwebhooks import Webhook

from shortcore.links.record import RedirectStatus
from shortcore.links.status import LinkStatus, status_at

PASSED: Final = "visits.threshold"
"""The event that the visits of a link have reached a threshold of the webhook."""

PING: Final = "ping"
"""The event of a test."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ID = re.compile(r"evt_([1-9][0-9]{0,18})_([0-9a-f]{1,14})", re.ASCII)


class LinkRow(msgspec.Struct, frozen=True):
    """The row of a link in `webhook_events`, as `shortcore.links.event_rows.SNAPSHOT` makes it."""

    code: str
    target: str
    redirect_status: RedirectStatus
    enabled: bool
    valid_from: datetime | None
    expires_at: datetime | None
    expired_target: str | None
    max_visits: int | None
    visits: int
    has_password: bool
    forward_query: bool
    forward_path: bool
    title: str | None
    tags: tuple[str, ...]
    note: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class EventLink(msgspec.Struct, frozen=True):
    """A link in an event: as the API shows it, at the time of the event."""

    code: str
    domain: str
    short_url: str
    target: str
    redirect_status: RedirectStatus
    enabled: bool
    status: LinkStatus
    valid_from: datetime | None
    expires_at: datetime | None
    expired_target: str | None
    max_visits: int | None
    has_password: bool
    forward_query: bool
    forward_path: bool
    title: str | None
    tags: tuple[str, ...]
    note: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    self: str


class EventData(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event is about; a test has no link. `threshold` and `visits` are of a threshold."""

    link: EventLink | None = None
    threshold: int | None = None
    visits: int | None = None


class Message(msgspec.Struct, frozen=True):
    """The body of a request to a webhook."""

    type: str
    timestamp: datetime
    data: EventData


class Event(msgspec.Struct, frozen=True):
    """A row of `webhook_events`; `link` is JSON, or None."""

    id: int
    type: str
    host: str
    link: str | None
    created_at: datetime
    threshold: int | None = None
    visits: int | None = None


def message_id(event_id: int, created_at: datetime) -> str:
    """Return the id by which receivers recognise an event that they got before.

    The time makes it unique, even if the database was restored and gives the same number again.
    """
    return f"evt_{event_id}_{(created_at - _EPOCH) // _MICROSECOND:x}"


def event_of(text: str) -> tuple[int, datetime] | None:
    """Return the number and the time of the event with this message id, or None if it is invalid."""
    match = _ID.fullmatch(text)
    if match is None or int(match[1]) >= 2**63:
        return None
    return int(match[1]), _EPOCH + timedelta(microseconds=int(match[2], 16))


class Messages:
    """Makes the bodies of messages, with the short URLs of this installation."""

    def __init__(self, scheme: str, port: int | None) -> None:
        self._scheme = scheme
        self._port = "" if port is None else f":{port}"

    def body(self, event: Event) -> bytes:
        """Return the body: the same bytes in every attempt."""
        data = EventData()
        if event.link is not None:
            link = self._link(event, msgspec.json.decode(event.link, type=LinkRow))
            data = EventData(link, event.threshold, event.visits)
        return msgspec.json.encode(Message(event.type, event.created_at, data))

    def _link(self, event: Event, row: LinkRow) -> EventLink:
        deleted = row.deleted_at is not None
        return EventLink(
            code=row.code,
            domain=event.host,
            short_url=f"{self._scheme}://{event.host}{self._port}/{row.code}",
            target=row.target,
            redirect_status=row.redirect_status,
            enabled=row.enabled,
            status=status_at(event.created_at, row, row.visits, deleted=deleted),
            valid_from=_utc(row.valid_from),
            expires_at=_utc(row.expires_at),
            expired_target=row.expired_target,
            max_visits=row.max_visits,
            has_password=row.has_password,
            forward_query=row.forward_query,
            forward_path=row.forward_path,
            title=row.title,
            tags=row.tags,
            note=row.note,
            version=row.version,
            created_at=row.created_at.astimezone(UTC),
            updated_at=row.updated_at.astimezone(UTC),
            deleted_at=_utc(row.deleted_at),
            self=f"/api/v1/links/{event.host}/{row.code}",
        )


def headers_of(id_: str, at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of an attempt at `at` (UTC), with one signature for each secret."""
    text = body.decode()
    signatures = [Webhook(secret).sign(id_, at, text) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "Shortlinks-Webhooks",
        "webhook-id": id_,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)
