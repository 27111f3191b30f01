"""The JSON form of a link in requests and responses."""

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, WithJsonSchema

from shortcore.links.record import RedirectStatus
from shortcore.links.rows import READ_ONLY_FIELDS
from shortcore.links.status import LinkStatus, status_at
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

_EXAMPLE: dict[str, JsonValue] = {
    "target": "https://example.com/a/long/path?with=query",
    "code": "spring-sale",
    "expires_at": "2030-01-31T12:00:00Z",
    "tags": ["campaign"],
}


class WholeLink(Input):
    """All fields of a link that its owner sets; absent fields get their defaults."""

    read_only: ClassVar[frozenset[str]] = READ_ONLY_FIELDS

    target: Url = Field(description="Where the link leads: an absolute URL, http or https.")
    redirect_status: Redirect | None = Field(
        None, description="Status of the redirect; the server's default (302) if absent."
    )
    enabled: bool = Field(True, description="Whether it redirects; if not, it answers 404.")
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


class CreateLink(WholeLink):
    """A link to create. Only `target` is required."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    code: Code | None = Field(None, description="1 to 64 of A-Z a-z 0-9 - _; generated if absent.")
    domain: Host | None = Field(None, description="Host of the short URL; the default if absent.")
    find_if_exists: bool = Field(
        False, description="Answer 200 with an equal link of this domain instead of a second one."
    )


# These fields cannot be null: the rules say what to do instead.
_TARGET = TypeAdapter(Url).json_schema()
_OWN_CODE = Annotated[Code | None, WithJsonSchema(TypeAdapter(Code).json_schema())]
_OWN_DOMAIN = Annotated[Host | None, WithJsonSchema(TypeAdapter(Host).json_schema())]


class ReplaceLink(WholeLink):
    """The new state of a link. Only `target` is required; absent fields get their defaults."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"target": "https://example.com/", "tags": ["campaign"]}]}
    )
    read_only: ClassVar[frozenset[str]] = READ_ONLY_FIELDS - {"has_password"}

    code: _OWN_CODE = Field(None, description="The code in the path, if it is sent at all.")
    domain: _OWN_DOMAIN = Field(None, description="The domain in the path, if it is sent at all.")
    has_password: bool = Field(
        False, description="True without `password`: the link keeps the password that it has."
    )


class EditLink(Input):
    """A JSON merge patch (RFC 7396): null sets a field to its default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"target": "https://example.com/new"}]}
    )

    read_only: ClassVar[frozenset[str]] = READ_ONLY_FIELDS

    code: _OWN_CODE = Field(None, description="Cannot be changed: the link's own, if it is sent.")
    domain: _OWN_DOMAIN = Field(
        None, description="Cannot be changed: the link's own, if it is sent."
    )
    target: Annotated[Url | None, WithJsonSchema(_TARGET)] = None
    redirect_status: Redirect | None = None
    enabled: bool | None = None
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
    """A link in responses."""

    code: str
    domain: str
    short_url: AbsoluteUrl
    target: AbsoluteUrl
    redirect_status: RedirectStatus
    enabled: bool
    status: LinkStatus
    valid_from: Time | None
    expires_at: Time | None
    expired_target: AbsoluteUrl | None
    max_visits: int | None
    visits: int
    clicks: int
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
    """The result of one item of a batch."""

    status: int
    link: LinkView | None = None
    problem: Problem | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """The results of all items of a batch, in the order of the items."""

    items: list[BatchResult]


class ImportFailure(msgspec.Struct, frozen=True):
    """A row for which no link was created: its line number in the body, from 1, and the problem."""

    line: int
    problem: Problem


class ImportAnswer(msgspec.Struct, frozen=True):
    """The result of an import: the number of rows, the number of created links, and failed rows."""

    rows: int
    created: int
    failed: list[ImportFailure]


class LinkPage(msgspec.Struct, frozen=True):
    """One page of a list; `next` is the cursor of the following one."""

    items: list[LinkView]
    next: str | None


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and the number of links with it that are not in the trash."""

    tag: str
    links: int


class TagList(msgspec.Struct, frozen=True):
    """All tags."""

    items: list[TagCount]


def api_path(host: str, code: str) -> str:
    """Return the path of a link in this API."""
    return f"/api/v1/links/{host}/{code}"


class Presenter:
    """Makes views of links, with their short URLs."""

    def __init__(self, scheme: str, port: int | None) -> None:
        self._scheme = scheme
        self._port = "" if port is None else f":{port}"

    def short_url(self, host: str, code: str) -> str:
        """Return the short URL of a link."""
        return f"{self._scheme}://{host}{self._port}/{code}"

    def view(self, link: StoredLink, now: datetime) -> LinkView:
        """Return `link` as responses show it at `now`."""
        values: LinkValues = link.values
        # Positional, as keyword arguments take twice as long; mypy and the tests check the order.
        return LinkView(
            link.code,
            link.host,
            self.short_url(link.host, link.code),
            values.target,
            values.redirect_status,
            values.enabled,
            status_at(now, values, link.visits, deleted=link.deleted),
            values.valid_from,
            values.expires_at,
            values.expired_target,
            values.max_visits,
            link.counted_visits if values.max_visits is None else link.visits,
            link.clicks,
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
