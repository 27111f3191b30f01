"""Every error that a user of Shortlinks can meet, declared once.

Each class has a stable `type` (RFC 9457: the last part of `urn:shortlinks:problem:…`), an HTTP
status and a title; an instance adds a sentence for the client and, if the input was invalid, the
fields and the rules that they broke.

ShortlinksError
 ├ MalformedRequest         400  the body or a header cannot be read at all
 ├ Unauthorized             401  no key, or one that is unknown, expired or revoked
 ├ NotFound
 │  ├ LinkNotFound          404
 │  ├ DomainNotFound        404
 │  ├ TagNotFound           404
 │  ├ KeyNotFound           404
 │  ├ WebhookNotFound       404
 │  ├ DeliveryNotFound      404
 │  └ RouteNotFound         404  no such path in the API
 ├ MethodNotAllowed         405
 ├ Conflict
 │  ├ CodeTaken             409
 │  ├ DomainTaken           409
 │  ├ DomainInUse           409
 │  ├ LinkDeleted           409  the link is in the trash; restore it first
 │  ├ TooManyWebhooks       409
 │  ├ WebhookDisabled       409
 │  └ RequestInFlight       409  the same Idempotency-Key is being worked on
 ├ VersionMismatch          412  If-Match or If-None-Match does not hold
 ├ BodyTooLarge             413
 ├ UnsupportedMediaType     415  the body is not of a type that the route reads
 ├ InvalidInput             422  fields that break a rule
 ├ IdempotencyKeyReused     422  the key was used with another body
 ├ InternalError            500
 └ Unavailable
    ├ DatabaseUnavailable   503
    └ CacheUnavailable      503
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

URN = "urn:shortlinks:problem:"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: where (an RFC 6901 JSON pointer), which rule, and a sentence."""

    pointer: str
    rule: str
    detail: str


class ShortlinksError(Exception):
    """The base class: a class has a type, a status and a title, an instance a sentence."""

    type: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        fields: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self.retry_after_s = retry_after_s


class MalformedRequest(ShortlinksError):
    """The body or a header cannot be read at all."""

    type, status, title = "malformed-request", 400, "Malformed request"


class Unauthorized(ShortlinksError):
    """No API key was sent, or one that is unknown, expired or revoked."""

    type, status, title = "unauthorized", 401, "Unauthorized"


class NotFound(ShortlinksError):
    """What the request names does not exist."""

    type, status, title = "not-found", 404, "Not found"


class LinkNotFound(NotFound):
    """No link has this domain and code."""

    type, title = "link-not-found", "Link not found"


class DomainNotFound(NotFound):
    """No such domain is configured."""

    type, title = "domain-not-found", "Domain not found"


class TagNotFound(NotFound):
    """No link has this tag, and none had it when it was clicked."""

    type, title = "tag-not-found", "Tag not found"


class KeyNotFound(NotFound):
    """There is no such API key."""

    type, title = "key-not-found", "Key not found"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    type, title = "webhook-not-found", "Webhook not found"


class DeliveryNotFound(NotFound):
    """There is no such delivery of a webhook; old ones are deleted."""

    type, title = "delivery-not-found", "Delivery not found"


class RouteNotFound(NotFound):
    """The API has no such path."""

    type, title = "route-not-found", "Route not found"


class MethodNotAllowed(ShortlinksError):
    """The path exists, but not with this method."""

    type, status, title = "method-not-allowed", 405, "Method not allowed"


class Conflict(ShortlinksError):
    """The request does not fit the present state."""

    type, status, title = "conflict", 409, "Conflict"


class CodeTaken(Conflict):
    """Another link on this domain has the code, perhaps one in the trash."""

    type, title = "code-taken", "Code taken"


class DomainTaken(Conflict):
    """The domain exists already."""

    type, title = "domain-taken", "Domain taken"


class DomainInUse(Conflict):
    """The domain is the default domain, or has links that prevent the change."""

    type, title = "domain-in-use", "Domain in use"


class LinkDeleted(Conflict):
    """The link is in the trash and must be restored before it can be edited."""

    type, title = "link-deleted", "Link deleted"


class TooManyWebhooks(Conflict):
    """There are as many webhooks as there may be."""

    type, title = "too-many-webhooks", "Too many webhooks"


class WebhookDisabled(Conflict):
    """The webhook is disabled and must be enabled before it can be tested."""

    type, title = "webhook-disabled", "Webhook disabled"


class RequestInFlight(Conflict):
    """A request with the same Idempotency-Key has not been answered yet."""

    type, title = "request-in-flight", "Request in flight"


class VersionMismatch(ShortlinksError):
    """`If-Match` or `If-None-Match` does not hold (RFC 9110, 13.1.1 and 13.1.2)."""

    type, status, title = "version-mismatch", 412, "Version mismatch"


class BodyTooLarge(ShortlinksError):
    """The body is longer than the limit of its route."""

    type, status, title = "body-too-large", 413, "Body too large"


class UnsupportedMediaType(ShortlinksError):
    """The body is not of a media type that the route reads."""

    type, status, title = "unsupported-media-type", 415, "Unsupported media type"


class InvalidInput(ShortlinksError):
    """One or more fields break a rule; `fields` says which and how."""

    type, status, title = "invalid-input", 422, "Invalid input"


class IdempotencyKeyReused(ShortlinksError):
    """The Idempotency-Key was used before with another request."""

    type, status, title = "idempotency-key-reused", 422, "Idempotency key reused"


class InternalError(ShortlinksError):
    """A fault of ours; the log has the details under the request's id."""


class Unavailable(ShortlinksError):
    """A server that the response depends on is unavailable; nothing was changed."""

    type, status, title = "unavailable", 503, "Unavailable"

    def __init__(
        self, detail: str, *, fields: Sequence[FieldError] = (), retry_after_s: int | None = 1
    ) -> None:
        super().__init__(detail, fields=fields, retry_after_s=retry_after_s)


class DatabaseUnavailable(Unavailable):
    """PostgreSQL did not answer within its deadline."""

    type, title = "database-unavailable", "Database unavailable"


class CacheUnavailable(Unavailable):
    """Redis did not answer within its deadline."""

    type, title = "cache-unavailable", "Cache unavailable"


class ConfigurationError(Exception):
    """The process cannot start with its settings or the schema; the text is for the operator."""


class SchemaOlder(ConfigurationError):
    """The schema is older than this code needs. A migration upgrades it, so waiting may help."""


class TaskFailed(Exception):
    """A background task that must run for ever has ended; its end was logged."""
