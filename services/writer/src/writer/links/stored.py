"""A link as the writer knows it: what its owner set, and what the database adds."""

from datetime import datetime

import msgspec

from shortcore.links.record import LinkId, LinkRecord, LinkState, RedirectStatus


class LinkValues(msgspec.Struct, frozen=True, gc=False):
    """All that an owner can set and change."""

    target: str
    redirect_status: RedirectStatus = 302
    state: LinkState = LinkState.ACTIVE
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
    """A link that is to be inserted; `custom` says that somebody chose the code."""

    id: LinkId
    domain_id: int
    host: str
    code: str
    custom: bool
    values: LinkValues


class StoredLink(msgspec.Struct, frozen=True, gc=False):
    """A row of `links`, and the record of it that redirectors read."""

    host: str
    code: str
    domain_id: int
    values: LinkValues
    visits: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    record: LinkRecord

    @property
    def version(self) -> int:
        """The version of this state of the link."""
        return self.record.version

    @property
    def deleted(self) -> bool:
        """Whether it is in the trash."""
        return self.values.state is LinkState.DELETED
