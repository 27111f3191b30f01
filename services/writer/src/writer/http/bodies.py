"""Limits of request bodies, checked before a body is decoded.

A decoder or validator cannot be interrupted. So the limits apply to its raw bytes: their number,
and the number of JSON values in them.
"""

from dataclasses import dataclass
from typing import Final

from shortcore.errors import FieldError, MalformedRequest
from shortcore.links.json_size import has_more_values
from shortcore.settings.writer import WriterSettings
from writer.http.problems import invalid

BATCH: Final = "/api/v1/links:batch"
IMPORT: Final = "/api/v1/links:import"

MAX_VALUES: Final = 256
"""JSON values in the body of one object. A link with every field and tag has about 50."""

_VALUES_PER_ITEM = 64
_FIELDS_BYTES = 96 * 1024
"""Every field of a link except its targets, each at its limit and in the longest JSON escapes."""

_TARGETS = 4  # two targets, doubled for JSON escapes


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Maximum number of bytes and JSON values of a body, by path."""

    one_bytes: int
    many_bytes: int
    batch_values: int

    @classmethod
    def of(cls, settings: WriterSettings) -> "BodyLimits":
        """Return the limits for `settings`."""
        one = _TARGETS * settings.target_max_length + _FIELDS_BYTES
        return cls(
            one_bytes=min(one, settings.body_max_bytes),
            many_bytes=settings.body_max_bytes,
            batch_values=_VALUES_PER_ITEM * (settings.batch_max_items + 1),
        )

    def bytes_at(self, path: str) -> int:
        """Return the maximum number of bytes of a body sent to `path`."""
        return self.many_bytes if path in {BATCH, IMPORT} else self.one_bytes

    def check_json(self, body: bytes, path: str) -> None:
        """Raise MalformedRequest or InvalidInput for a body that must not be decoded."""
        # Python's decoder also reads UTF-16 and UTF-32, in which values cannot be counted.
        if b"\x00" in body:
            raise MalformedRequest("The body is not valid JSON in UTF-8.")
        most = MAX_VALUES
        if path == BATCH:
            # One item with the values of a thousand would take as long to decode as a thousand.
            objects = body.count(b"{")
            most = min(self.batch_values, max(MAX_VALUES, _VALUES_PER_ITEM * objects))
        if has_more_values(body, most):
            detail = f"The body has more than {most} JSON values; send fewer in one request."
            raise invalid([FieldError("", "length", detail)])
