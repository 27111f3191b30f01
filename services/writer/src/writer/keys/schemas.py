"""The JSON form of an API key in requests and responses."""

from typing import Annotated, ClassVar

import msgspec
from pydantic import ConfigDict, Field

from writer.http.fields import Input, Instant, Text
from writer.http.output_fields import Path, Time
from writer.keys.repository import ApiKey


class CreateKey(Input):
    """A key to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "newsletter"}]})
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"id", "prefix", "created_at", "last_used_at", "revoked_at", "self", "key"}
    )

    name: Annotated[Text, Field(min_length=1, max_length=200)] = Field(description="Whose key.")
    expires_at: Instant | None = Field(None, description="Refused from this time on.")


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key in responses; only the response to its creation has its text, as `key`."""

    id: int
    name: str
    prefix: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None
    self: Path
    key: str = ""


class KeyPage(msgspec.Struct, frozen=True):
    """One page of the list of keys; `next` is the cursor of the following one."""

    items: list[KeyView]
    next: str | None


def view_of(key: ApiKey, secret: str = "") -> KeyView:
    """Return `key` as responses show it."""
    return KeyView(
        id=key.id,
        name=key.name,
        prefix=f"sl_{key.prefix}",
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        self=f"/api/v1/keys/{key.id}",
        key=secret,
    )
