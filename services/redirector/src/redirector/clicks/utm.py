"""Reads the UTM values of a requested URL: `utm_source`, `utm_medium` and `utm_campaign`."""

import re
from urllib.parse import unquote_plus

from shortcore.clicks.wire import MAX_CAMPAIGN, Campaign

NO_CAMPAIGN: Campaign = ("", "", "")

MARK = "utm_"
"""A target without it has no UTM values."""

_MAX_RAW = 12 * MAX_CAMPAIGN
"""Characters of a value that are decoded: a character has up to four bytes, each with an escape."""
_MAX_NAMES = 32
"""Names with the mark that are read: a URL can have thousands."""

# In a URL that was pasted with extra characters (`pasted`), the query may begin with `&`, and `&` may be
# an HTML entity.
_BEFORE = ("?", "&", "&amp;")
_VALUE = re.compile(rf"utm_(source|medium|campaign)=([^&#]{{0,{_MAX_RAW}}})")


def campaign_of(target: str) -> Campaign:
    """Return the UTM values in the query of a request target: decoded, printable, bounded in length.

    The first of repeated values counts. An invalid escape stays as it is.
    """
    found: dict[str, str] = {}
    at = target.find(MARK)
    for _ in range(_MAX_NAMES):
        if at < 0:
            break
        match = _VALUE.match(target, at)
        if match and match[1] not in found and target.endswith(_BEFORE, 0, at):
            found[match[1]] = _decoded(match[2])
        at = target.find(MARK, at + len(MARK))
    return found.get("source", ""), found.get("medium", ""), found.get("campaign", "")


def _decoded(raw: str) -> str:
    text = unquote_plus(raw, errors="replace")
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    return text.strip()[:MAX_CAMPAIGN].rstrip()
