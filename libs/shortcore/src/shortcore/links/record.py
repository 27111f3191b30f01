"""A link as the redirector sees it, and the key that names it everywhere."""

import enum
import re
from typing import Literal, NewType, get_args

import msgspec

LinkKey = NewType("LinkKey", str)
"""`host/code`: the host in lower case without port, the code as it is stored (case matters)."""

LinkId = NewType("LinkId", int)
"""The number behind a generated code; also names the link in click records."""

Version = NewType("Version", int)
"""Grows with every change of a link, from one global sequence; 0 means «never existed»."""

RedirectStatus = Literal[301, 302, 307, 308]
"""A literal, so that decoded records share the four numbers: 32 bytes less a cached link."""

REDIRECT_STATUSES: tuple[RedirectStatus, ...] = get_args(RedirectStatus)


def link_key(host: str, code: str) -> LinkKey:
    """Name the link `code` on `host`."""
    return LinkKey(f"{host}/{code}")


def split_key(key: LinkKey) -> tuple[str, str]:
    """Return the host and the code of a key; a host never holds a slash."""
    host, _, code = key.partition("/")
    return host, code


class LinkState(enum.StrEnum):
    """What the owner decided; expiry and the visit limit are derived from other fields."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


class Kind(enum.IntEnum):
    """What a record says of its key; the numbers are on the wire and never change."""

    ABSENT = 0
    """PostgreSQL has no such row: 404. With a version above 0 the row was purged then."""
    ACTIVE = 1
    DISABLED = 2
    """404, as if it were not there, until it is enabled again."""
    DELETED = 3
    """In the trash: 410."""


class LinkRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that a redirect needs to know, as it stands in Redis and in the local cache.

    On the wire this is a MessagePack array: new fields go to the end and have a default, so
    that an older and a newer redirector read each other's records. Times are Unix
    milliseconds.
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
    """Has a visit limit: every visit must be counted down in PostgreSQL."""
    password_hash: str | None = None
    forward_query: bool = False
    forward_path: bool = False
    title: str | None = None
    created_at_ms: int = 0
    simple_target: bool = False
    """`is_simple_target` was true for the target when the record was made; False says nothing."""


_SIMPLE_TARGET = re.compile(
    r"https?://(?:[a-z0-9_-]+\.)+(?!localhost[/:?]|localhost\Z)[a-z]+(?::[0-9]{1,5})?"
    r"(?:[/?][A-Za-z0-9\-._~!$&'()*+,;=:@/?]*+)?"
)


def is_simple_target(target: str) -> bool:
    """Say whether `target` is a web URL on a public host name, with no character to be escaped.

    Such a target stands in a `Location` header as it is (RFC 3986), and its host is a name with a
    dot: no address, and no name of this machine.
    """
    return _SIMPLE_TARGET.fullmatch(target) is not None


def absent(version: int = 0) -> LinkRecord:
    """Return the record of a key without a link; `version` above 0 marks a purge."""
    return LinkRecord(version, Kind.ABSENT)
