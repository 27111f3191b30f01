"""A link in the writer: the fields that its owner sets, and those that the database sets."""

from datetime import datetime

import msgspec

from shortcore.links.record import LinkId, LinkKey, LinkRecord, RedirectStatus, link_key


class LinkValues(msgspec.Struct, frozen=True, gc=False):
    """The fields that an owner can set and change."""

    target: str
    redirect_status: RedirectStatus = 302
    enabled: bool = True
    valid_from: datetime | None = None
    expires_at: datetime | None = None
    expired_target: str | None = None
    max_visits: int | None = None
    password_hash: str | None = None
    forward_query: bool = False
    forward_path: bool = False
    title: str | None = None
    tags: tuple[str, ...] = ()
    note: str | None = None


class NewLink(msgspec.Struct, frozen=True, gc=False):
    """A link to insert; `custom` says that its code is a custom code."""

    id: LinkId
    domain_id: int
    host: str
    code: str
    custom: bool
    values: LinkValues


class StoredLink(msgspec.Struct, frozen=True, gc=False):
    """A row of `links`, and its record for redirectors."""

    host: str
    code: str
    domain_id: int
    values: LinkValues
    visits: int
    """The visits that count down `max_visits`; of another link, those from before it had none."""

    clicks: int
    counted_visits: int
    """All clicks and visits that the worker has counted."""

    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    record: LinkRecord

    @property
    def key(self) -> LinkKey:
        """The key of the link in Redis."""
        return link_key(self.host, self.code)

    @property
    def version(self) -> int:
        """The version of the link."""
        return self.record.version

    @property
    def deleted(self) -> bool:
        """Whether the link is in the trash."""
        return self.deleted_at is not None
