"""The JSON form of a domain in requests and responses."""

from typing import Annotated, ClassVar, Final

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, WithJsonSchema

from writer.domains.repository import Domain
from writer.http.fields import Host, Input, Url
from writer.http.output_fields import AbsoluteUrl, Path, Time

_READ_ONLY: Final = frozenset({"default", "version", "created_at", "updated_at", "self"})
"""Fields that only responses have."""


class DomainFields(Input):
    """All that an operator sets of a domain."""

    read_only: ClassVar[frozenset[str]] = _READ_ONLY

    default_target: Url | None = Field(None, description="Where the bare host leads.")
    not_found_target: Url | None = Field(None, description="Where unknown codes lead.")
    case_insensitive: bool | None = Field(
        None,
        description="Whether `/Sale`, `/SALE` and `/sale` are one link. All codes are then stored"
        " in lower case; refused while the domain has codes with capital letters.",
    )


class EditDomain(DomainFields):
    """A JSON merge patch (RFC 7396): null sets a field to its default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"not_found_target": "https://example.com/404"}]}
    )

    host: Annotated[Host | None, WithJsonSchema(TypeAdapter(Host).json_schema())] = Field(
        None, description="Cannot be changed: the domain's own, if it is sent."
    )


class CreateDomain(DomainFields):
    """A domain to add."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"host": "go.example.com"}]})

    host: Host = Field(description="A host name, without scheme, port or path.", max_length=300)


class DomainView(msgspec.Struct, frozen=True):
    """A domain in responses."""

    host: str
    default_target: AbsoluteUrl | None
    not_found_target: AbsoluteUrl | None
    case_insensitive: bool
    default: bool
    version: int
    created_at: Time
    updated_at: Time
    self: Path


class DomainPage(msgspec.Struct, frozen=True):
    """One page of the list of domains; `next` is the cursor of the following one."""

    items: list[DomainView]
    next: str | None


def view_of(domain: Domain, default_host: str) -> DomainView:
    """Return `domain` as responses show it."""
    return DomainView(
        host=domain.host,
        default_target=domain.default_target,
        not_found_target=domain.not_found_target,
        case_insensitive=domain.case_insensitive,
        default=domain.host == default_host,
        version=domain.version,
        created_at=domain.created_at,
        updated_at=domain.updated_at,
        self=f"/api/v1/domains/{domain.host}",
    )
