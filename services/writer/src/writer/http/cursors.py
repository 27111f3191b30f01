"""Cursors: the position after a page of a list, opaque to clients, validated on return."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

import msgspec

from shortcore.errors import FieldError
from writer.http.problems import invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT = 2**63
_MICROSECOND = timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_INVALID = "The cursor is invalid; use `next` of the previous page."
MAX_LENGTH: Final = 400
MAX_VALUE_LENGTH: Final = 2000
"""Maximum length of a cursor that contains a value, such as a referrer."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last link of a page: the order of the list, the value in this order, and the id.

    The value is a time (µs since 1970) or a number of visits.
    """

    sort: str
    number: int
    id: int

    @property
    def at(self) -> datetime:
        """The value as a time."""
        return _EPOCH + timedelta(microseconds=self.number)


class KeyCursor(msgspec.Struct, frozen=True, array_like=True, tag="keys"):
    """The last key of a page."""

    id: Annotated[int, msgspec.Meta(ge=0, le=_LIMIT - 1)]


class DomainCursor(msgspec.Struct, frozen=True, array_like=True, tag="domains"):
    """The last domain of a page."""

    host: Annotated[str, msgspec.Meta(max_length=255, pattern=r"\A[!-~]+\Z")]


class ValueCursor(msgspec.Struct, frozen=True, array_like=True, tag="values"):
    """The last value of a page: the dimension, what decides the order, and the rank of the value."""

    dimension: str
    by: str
    rank: tuple[int, int, str]


class DeliveryCursor(msgspec.Struct, frozen=True, array_like=True, tag="deliveries"):
    """The event of the last delivery of a page."""

    id: Annotated[int, msgspec.Meta(ge=0, le=_LIMIT - 1)]


_AnyCursor = TypeVar("_AnyCursor", Cursor, KeyCursor, DomainCursor, ValueCursor, DeliveryCursor)


def encode_cursor(sort: str, value: datetime | int, id_: int) -> str:
    """Return the cursor after the link `id_`, which has `value` in the order `sort`."""
    number = value if isinstance(value, int) else (value - _EPOCH) // _MICROSECOND
    return encode(Cursor(sort, number, id_))


def encode(cursor: Cursor | KeyCursor | DomainCursor | ValueCursor | DeliveryCursor) -> str:
    """Return the text of `cursor`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str, sort: str) -> Cursor:
    """Return the cursor in `text`; raises InvalidInput if it is invalid or of another order."""
    cursor = _decode(text, Cursor)
    if cursor.sort != sort:
        raise _refused(f"This cursor is for sort={cursor.sort}; start again without a cursor.")
    # Other values do not fit a datetime or an id of PostgreSQL.
    if not (0 <= cursor.number <= _LAST_US and 0 <= cursor.id < _LIMIT):
        raise _refused(_INVALID)
    return cursor


def key_before(text: str | None) -> int:
    """Return the id after which a page of keys begins; raises InvalidInput."""
    return 0 if text is None else _decode(text, KeyCursor).id


def host_before(text: str | None) -> str:
    """Return the host after which a page of domains begins; raises InvalidInput."""
    return "" if text is None else _decode(text, DomainCursor).host


def delivery_before(text: str | None) -> int:
    """Return the event id before which a page of deliveries begins; raises InvalidInput."""
    return _LIMIT - 1 if text is None else _decode(text, DeliveryCursor).id


def rank_before(text: str | None, dimension: str, by: str) -> tuple[int, int, str] | None:
    """Return the rank after which a page of values begins, or None for the first; raises InvalidInput."""
    if text is None:
        return None
    cursor = _decode(text, ValueCursor, MAX_VALUE_LENGTH)
    if (cursor.dimension, cursor.by) != (dimension, by):
        detail = (
            f"This cursor is for {cursor.dimension} by {cursor.by}; start again without a cursor."
        )
        raise _refused(detail)
    return cursor.rank


def _decode(text: str, kind: type[_AnyCursor], max_length: int = MAX_LENGTH) -> _AnyCursor:
    if len(text) > max_length:
        raise _refused(_INVALID)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _refused(_INVALID) from None


def _refused(detail: str) -> Exception:
    return invalid([FieldError("?cursor", "cursor", detail)])
