"""Parses the path of a request: a code, optionally with the `+` of a preview or a path after it.

The path is not decoded: a `%2F` in it is part of a segment, never a separator (RFC 3986, section
2.2).
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

_CODE = re.compile(r"([A-Za-z0-9_-]{1,64})(\+?)", re.ASCII)
_MAX_ESCAPED = 3 * 65  # a code and its `+`, every character escaped


class Asked(NamedTuple):
    """A parsed path. `rest` is the percent-encoded path after the code with its slash, or ""."""

    code: str
    rest: str
    preview: bool


match_code = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
"""Returns a match if a text has the form of a code; for the hot path."""


match_code_path = re.compile(r"/[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
"""Returns a match if a text is a slash and a code; for the hot path."""


def read_path(raw: str) -> Asked | None:
    """Parse `raw`, or return None if it cannot contain a code."""
    segment, slash, rest = raw[1:].partition("/")
    if len(segment) > _MAX_ESCAPED:
        return None
    match = _CODE.fullmatch(unquote(segment) if "%" in segment else segment)
    if match is None or (match[2] and slash):
        return None
    return Asked(match[1], slash + rest, preview=bool(match[2]))
