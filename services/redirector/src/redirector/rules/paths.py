"""What the path of a request asks for: a code, perhaps its preview, perhaps a path after it.

Works on the path as sent: a `%2F` in it is part of a segment, never a separator (RFC 3986,
section 2.2).
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

_CODE = re.compile(r"([A-Za-z0-9_-]{1,64})(\+?)", re.ASCII)
_MAX_ESCAPED = 3 * 65  # a code and its `+`, every character escaped


class Asked(NamedTuple):
    """`rest` is what follows the code, from its slash on and still escaped, or empty."""

    code: str
    rest: str
    preview: bool


match_code = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
"""Returns a match if a text is a code and nothing else; for the hot path."""


def is_code(text: str) -> bool:
    """Say whether `text` is a code and nothing else."""
    return match_code(text) is not None


def read_path(raw: str) -> Asked | None:
    """Return what `raw` asks for, or None if no code could ever be named like this."""
    segment, slash, rest = raw[1:].partition("/")
    if len(segment) > _MAX_ESCAPED:
        return None
    match = _CODE.fullmatch(unquote(segment) if "%" in segment else segment)
    if match is None or (match[2] and slash):
        return None
    return Asked(match[1], slash + rest, preview=bool(match[2]))
