"""Limits of request bodies, checked before objects are built from them.

A decoder or a validator cannot be interrupted, so the work that a body can cause must be bounded
by what is counted in its bytes.
"""

from dataclasses import dataclass
from typing import Final

from shortcore.errors import FieldError, MalformedRequest
from shortcore.links.json_size import has_more_values
from shortcore.settings import WriterSettings
from writer.http.problems import invalid

BATCH: Final = "/api/v1/links:batch"
IMPORT: Final = "/api/v1/links:import"

MAX_VALUES: Final = 256
"""Values in the JSON body of one object. A link with all of its fields and tags has about 50."""

_VALUES_PER_ITEM = 64
_FIELDS_BYTES = 96 * 1024
"""Every field of a link but its targets, each at its limit and in the longest JSON escapes."""

_TARGETS = 4  # two targets, and as much again for escapes


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How many bytes and JSON values a body may hold, by the path that it is sent to."""

    one_bytes: int
    many_bytes: int
    batch_values: int

    @classmethod
    def of(cls, settings: WriterSettings) -> "BodyLimits":
        """Return the limits that fit `settings`."""
        one = _TARGETS * settings.target_max_length + _FIELDS_BYTES
        return cls(
            one_bytes=min(one, settings.body_max_bytes),
            many_bytes=settings.body_max_bytes,
            batch_values=_VALUES_PER_ITEM * (settings.batch_max_items + 1),
        )

    def bytes_at(self, path: str) -> int:
        """Return how many bytes a body sent to `path` may have."""
        return self.many_bytes if path in {BATCH, IMPORT} else self.one_bytes

    def check_json(self, body: bytes, path: str) -> None:
        """Raise MalformedRequest or InvalidInput for a body that no decoder should see."""
        # Python's decoder also reads UTF-16 and UTF-32, in which nothing can be counted.
        if b"\x00" in body:
            raise MalformedRequest("The body is not valid JSON in UTF-8.")
        most = self.batch_values if path == BATCH else MAX_VALUES
        if has_more_values(body, most):
            detail = f"The body holds more than {most} JSON values; send less in one request."
            raise invalid([FieldError("", "length", detail)])
