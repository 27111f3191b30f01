"""Reads the UTM values of a requested URL: `utm_source`, `utm_medium` and `utm_campaign`."""

import re
from itertools import islice
from urllib.parse import unquote_plus

from shortcore.clicks.wire import MAX_CAMPAIGN, Campaign

NO_CAMPAIGN: Campaign = ("", "", "")

MARK = "utm_"
"""A target without it has no UTM values."""

_MAX_RAW = 12 * MAX_CAMPAIGN
"""Characters of a value that are decoded: a character has up to four bytes, each with an escape."""
_MAX_VALUES = 16
# In a URL that was pasted with extra characters (`pasted`), the query may begin with `&`, and `&` may be
# an HTML entity.
_VALUE = re.compile(r"[?&](?:amp;)?utm_(source|medium|campaign)=([^&#]*)")


def campaign_of(target: str) -> Campaign:
    """Return the UTM values in the query of a request target: decoded, printable, bounded in length.

    The first of repeated values counts. An invalid escape stays as it is.
    """
    found: dict[str, str] = {}
    for match in islice(_VALUE.finditer(target), _MAX_VALUES):
        found.setdefault(match[1], _decoded(match[2][:_MAX_RAW]))
    return found.get("source", ""), found.get("medium", ""), found.get("campaign", "")


def _decoded(raw: str) -> str:
    text = unquote_plus(raw, errors="replace")
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    return text.strip()[:MAX_CAMPAIGN].rstrip()
