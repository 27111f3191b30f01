"""Reads the other header fields of a click: referrer, language, purpose, country."""

import re

from shortcore.clicks.wire import MAX_HOST

_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_MAX_LANGUAGES = 8
_MAX_LANGUAGE_BYTES = 256
_LANGUAGE = re.compile(r"\s*([a-z]{2,3})(?:-[a-z0-9-]{1,32})?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")
_COUNTRY = re.compile(rb"[A-Z]{2}")
_NO_COUNTRIES = frozenset({b"XX", b"ZZ"})
"""What CDNs send for an unknown country. (Cloudflare's T1, for Tor, is not a country either.)"""


def referrer_host(referrer: bytes) -> str:
    """Return the host of a `Referer` in lower case, or "" if it has none (RFC 9110, 10.1.3)."""
    parts = referrer.split(b"/", 3)
    if len(parts) < 3 or parts[1]:  # noqa: PLR2004  # scheme, nothing, authority
        return ""
    host = parts[2].rpartition(b"@")[2].partition(b":")[0].removesuffix(b".")
    if len(host) > MAX_HOST:
        return ""
    text = host.decode("latin-1").lower()
    return text if _HOST.fullmatch(text) else ""


def preferred_language(accept: bytes) -> str:
    """Return the primary subtag of the preferred language in `Accept-Language`, or "".

    This is the language with the highest weight, and of several the first (RFC 9110, 12.5.4). Only the
    first eight languages are read, and only tags that begin with an ISO 639 code.
    """
    best, heaviest = "", 0.0
    ranges = accept[:_MAX_LANGUAGE_BYTES].decode("latin-1").lower().split(",", _MAX_LANGUAGES)
    for each in ranges[:_MAX_LANGUAGES]:
        found = _LANGUAGE.fullmatch(each)
        if found is not None and (weight := float(found[2] or 1)) > heaviest:
            best, heaviest = found[1], weight
    return best


def country_code(value: bytes) -> str:
    """Return the ISO 3166-1 code in a header of a CDN, or "" if the country is unknown."""
    if value in _NO_COUNTRIES or not _COUNTRY.fullmatch(value):
        return ""
    return value.decode("ascii")


def is_prefetch(purpose: bytes) -> bool:
    """Return whether `Sec-Purpose` (Fetch), `Purpose`, `X-Purpose` or `X-Moz` names a prefetch."""
    text = purpose.lower()
    return b"prefetch" in text or b"preview" in text or b"prerender" in text
