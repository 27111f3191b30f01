"""Cursors: where a page of a list ends, opaque to clients, checked when they come back."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from shortcore.errors import FieldError
from writer.problems import invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT = 2**63
_MICROSECOND = timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
MAX_LENGTH: Final = 200


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last link of a page: which order it is for, its place (µs since 1970), its id."""

    sort: str
    at_us: int
    id: int

    @property
    def at(self) -> datetime:
        """The place as an instant."""
        return _EPOCH + timedelta(microseconds=self.at_us)


def encode_cursor(sort: str, at: datetime, id_: int) -> str:
    """Return the cursor after the link `id_`, whose place in the order is `at`."""
    at_us = (at - _EPOCH) // _MICROSECOND
    raw = msgspec.json.encode(Cursor(sort, at_us, id_))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(text: str, sort: str) -> Cursor:
    """Return the cursor in `text`; raises InvalidInput for any other text or another order."""
    if len(text) > MAX_LENGTH:
        raise _refused("This is no cursor; take it from `next` of the page before.")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(raw, type=Cursor)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _refused("This is no cursor; take it from `next` of the page before.") from None
    if cursor.sort != sort:
        raise _refused(f"This cursor belongs to sort={cursor.sort}; begin again without it.")
    # Beyond them no datetime, and no id of PostgreSQL, can be made.
    if not (0 <= cursor.at_us <= _LAST_US and 0 <= cursor.id < _LIMIT):
        raise _refused("This is no cursor; take it from `next` of the page before.")
    return cursor


def _refused(detail: str) -> Exception:
    return invalid([FieldError("?cursor", "cursor", detail)])
