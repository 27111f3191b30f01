"""What a link looks like in requests and answers."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, WithJsonSchema

from shortcore.links.record import LinkState
from writer.http.fields import (
    Code,
    Host,
    Input,
    Instant,
    Note,
    Password,
    Redirect,
    Tags,
    Title,
    Url,
    Visits,
)
from writer.http.output_fields import AbsoluteUrl, Path, Time
from writer.http.problems import Problem
from writer.links.stored import LinkValues, StoredLink

SettableState = Literal["active", "disabled"]

_EXAMPLE: dict[str, JsonValue] = {
    "target": "https://example.com/a/long/path?with=query",
    "code": "spring-sale",
    "expires_at": "2030-01-31T12:00:00Z",
    "tags": ["campaign"],
}


class CreateLink(Input):
    """A link to create. Only `target` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    target: Url = Field(description="Where the link leads: an absolute URL, http or https.")
    code: Code | None = Field(None, description="1 to 64 of A-Z a-z 0-9 - _; generated if absent.")
    domain: Host | None = Field(None, description="Host of the short URL; the default if absent.")
    redirect_status: Redirect | None = Field(
        None, description="Status of the redirect; the server's default (302) if absent."
    )
    state: SettableState = "active"
    valid_from: Instant | None = Field(None, description="No redirect before this time.")
    expires_at: Instant | None = Field(None, description="No redirect from this time on.")
    expired_target: Url | None = Field(None, description="Where it leads after its end.")
    max_visits: Visits | None = Field(None, description="How many visits it serves.")
    password: Password | None = Field(None, description="What visitors must enter first.")
    forward_query: bool = Field(False, description="Append the visitor's query to the target.")
    forward_path: bool = Field(False, description="Append what follows the code to the target.")
    title: Title | None = None
    tags: Tags = Field(default_factory=list)
    note: Note | None = None
    find_if_exists: bool = Field(
        False, description="Answer 200 with an equal link of this domain instead of a second one."
    )


# The service says what to do instead of null, which takes no target away.
_TARGET = TypeAdapter(Url).json_schema()


class EditLink(Input):
    """A JSON merge patch (RFC 7396): what is absent stays, null sets a field to its default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"target": "https://example.com/new"}]}
    )

    target: Annotated[Url | None, WithJsonSchema(_TARGET)] = None
    redirect_status: Redirect | None = None
    state: SettableState | None = None
    valid_from: Instant | None = None
    expires_at: Instant | None = None
    expired_target: Url | None = None
    max_visits: Visits | None = None
    password: Password | None = None
    forward_query: bool | None = None
    forward_path: bool | None = None
    title: Title | None = None
    tags: Tags | None = None
    note: Note | None = None


class BatchLinks(Input):
    """Many links to create at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "atomic": False}]}
    )

    items: Annotated[
        list[object],
        Field(min_length=1),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": 10_000,
                "items": {"$ref": "#/components/schemas/CreateLink"},
            }
        ),
    ]
    atomic: bool = Field(False, description="Create all or nothing.")


class LinkView(msgspec.Struct, frozen=True, gc=False):
    """A link in answers."""

    code: str
    domain: str
    short_url: AbsoluteUrl
    target: AbsoluteUrl
    redirect_status: int
    state: str
    status: str
    """active, disabled, scheduled, expired, exhausted or deleted: what a visitor meets now."""
    valid_from: Time | None
    expires_at: Time | None
    expired_target: AbsoluteUrl | None
    max_visits: int | None
    visits: int
    has_password: bool
    forward_query: bool
    forward_path: bool
    title: str | None
    tags: tuple[str, ...]
    note: str | None
    version: int
    created_at: Time
    updated_at: Time
    deleted_at: Time | None
    self: Path


class BatchResult(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one item of a batch."""

    status: int
    link: LinkView | None = None
    problem: Problem | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """What became of all items, in their order."""

    items: list[BatchResult]


class ImportFailure(msgspec.Struct, frozen=True):
    """A row that made no link: its line in the body, from 1, and why."""

    line: int
    problem: Problem


class ImportAnswer(msgspec.Struct, frozen=True):
    """What became of the rows of an import: how many there were, how many links they made."""

    rows: int
    created: int
    failed: list[ImportFailure]


class LinkPage(msgspec.Struct, frozen=True):
    """One page of a list; `next` is the cursor of the following one."""

    items: list[LinkView]
    next: str | None


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and how many links that are not in the trash carry it."""

    tag: str
    links: int


class TagList(msgspec.Struct, frozen=True):
    """All tags."""

    items: list[TagCount]


def status_of(link: StoredLink, now: datetime) -> str:
    """Return what a visitor meets at `now`; the order is that of the redirector's decisions."""
    values = link.values
    if values.state is not LinkState.ACTIVE:
        return values.state.value
    if values.expires_at is not None and values.expires_at <= now:
        return "expired"
    if values.max_visits is not None and link.visits >= values.max_visits:
        return "exhausted"
    if values.valid_from is not None and now < values.valid_from:
        return "scheduled"
    return LinkState.ACTIVE.value


def api_path(host: str, code: str) -> str:
    """Return the path of a link in this API."""
    return f"/api/v1/links/{host}/{code}"


class Presenter:
    """Makes views; knows how short URLs are written here."""

    def __init__(self, scheme: str, port: int | None) -> None:
        self._scheme = scheme
        self._port = "" if port is None else f":{port}"

    def view(self, link: StoredLink, now: datetime) -> LinkView:
        """Return `link` as answers show it at `now`."""
        values: LinkValues = link.values
        # By place, not by name, which takes twice as long; mypy and the tests see to the order.
        return LinkView(
            link.code,
            link.host,
            f"{self._scheme}://{link.host}{self._port}/{link.code}",
            values.target,
            values.redirect_status,
            values.state.value,
            status_of(link, now),
            values.valid_from,
            values.expires_at,
            values.expired_target,
            values.max_visits,
            link.visits,
            values.password_hash is not None,
            values.forward_query,
            values.forward_path,
            values.title,
            values.tags,
            values.note,
            link.version,
            link.created_at,
            link.updated_at,
            link.deleted_at,
            api_path(link.host, link.code),
        )
