"""Origins of browsers: which web pages may call a service from a script (Fetch Standard, CORS)."""

import re
from collections.abc import Iterable
from typing import Final

from ada_url import parse_url

ANY_ORIGIN: Final = "*"
"""The setting that allows every web page."""

_WEB = ("http://", "https://")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\x00-\x20\x7f/\\?#@,*]+", re.ASCII)


def normalise_origin(raw: str) -> str:
    """Return an origin as browsers send it: lower case, punycode, without the default port.

    `*` stays as it is. Raises ValueError for a value that no browser sends as an origin, and for
    `null`, which every sandboxed page sends.
    """
    if raw == ANY_ORIGIN:
        return raw
    origin = raw.lower()
    if _ORIGIN.fullmatch(origin):
        if not origin.startswith(_WEB):
            return origin  # such as that of a browser extension
        try:
            return parse_url(origin, ("origin",))["origin"]
        except ValueError:
            pass
    raise ValueError(
        f"{raw[:100]!r} is not an origin: write scheme, host and perhaps port, such as"
        " https://app.example.com, or * alone."
    )


def normalise_origins(raw: Iterable[str]) -> frozenset[str]:
    """Return the normal form of each origin; raises ValueError, also for `*` with others."""
    origins = frozenset(map(normalise_origin, raw))
    if ANY_ORIGIN in origins and len(origins) > 1:
        raise ValueError("Name origins or * alone, not both.")
    return origins
