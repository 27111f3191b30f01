"""The record of a link that a redirect needs, and the key of a link."""

import enum
import re
from typing import Literal, NewType, get_args

import msgspec

LinkKey = NewType("LinkKey", str)
"""`host/code`: the host in lower case without a port, the code as stored (case-sensitive)."""

LinkId = NewType("LinkId", int)
"""The number of a generated code; it also identifies the link in clicks."""

Version = NewType("Version", int)
"""Grows with every change of a link, from one global sequence; 0 means that no link ever existed."""

RedirectStatus = Literal[301, 302, 307, 308]
"""A literal, so that decoded records share the four numbers: it saves 32 bytes per cached link."""

REDIRECT_STATUSES: tuple[RedirectStatus, ...] = get_args(RedirectStatus)


def link_key(host: str, code: str) -> LinkKey:
    """Return the key of the link `code` on `host`."""
    return LinkKey(f"{host}/{code}")


def split_key(key: LinkKey) -> tuple[str, str]:
    """Return the host and the code of a key; a host never holds a slash."""
    host, _, code = key.partition("/")
    return host, code


class Kind(enum.IntEnum):
    """The state of a link in a record; the numbers are on the wire and never change.

    A record has one number for what PostgreSQL and the API hold in two places: `enabled`, which is
    kept while a link is in the trash, and `deleted_at`.
    """

    ABSENT = 0
    """PostgreSQL has no such row: 404. A version above 0 is that of the purge of the row."""
    ACTIVE = 1
    DISABLED = 2
    """404, as if the link did not exist, until it is enabled again."""
    DELETED = 3
    """In the trash: 410."""


class LinkRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that a redirect needs of a link, in Redis and in the local cache.

    On the wire this is a MessagePack array. New fields go to the end and have a default, so that
    older and newer redirectors read each other's records. Times are Unix times in milliseconds.
    """

    version: int
    kind: Kind
    link_id: int = 0
    target: str = ""
    redirect_status: RedirectStatus = 302
    valid_from_ms: int | None = None
    expires_at_ms: int | None = None
    expired_target: str | None = None
    limited: bool = False
    """Has a visit limit: every visit must be counted in PostgreSQL."""
    password_hash: str | None = None
    forward_query: bool = False
    forward_path: bool = False
    title: str | None = None
    created_at_ms: int = 0
    simple_target: bool = False
    """Whether `is_simple_target` returned True when the record was made; False means unknown."""


_SIMPLE_TARGET = re.compile(
    r"https?://(?:[a-z0-9_-]+\.)+(?!localhost[/:?]|localhost\Z)[a-z]+(?::[0-9]{1,5})?"
    r"(?:[/?][A-Za-z0-9\-._~!$&'()*+,;=:@/?]*+)?"
)


def is_simple_target(target: str) -> bool:
    """Return whether `target` is a web URL on a public host name, without a character to be escaped.

    Such a target can be sent in a `Location` header unchanged (RFC 3986). Its host is a name with a
    dot, not an address or a loopback name.
    """
    return _SIMPLE_TARGET.fullmatch(target) is not None


def absent(version: int = 0) -> LinkRecord:
    """Return the record of a key without a link; `version` above 0 marks a purge."""
    return LinkRecord(version, Kind.ABSENT)
