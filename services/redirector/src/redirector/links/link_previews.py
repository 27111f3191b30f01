"""Recognises requests that fetch a link automatically, and therefore use up no visit.

These are requests of programs that make link previews, prefetches of browsers, and HEAD.
"""

from typing import TypeAlias

from redirector.clicks.fields import is_prefetch
from redirector.clicks.preview_agents import PREVIEW_AGENTS
from redirector.clicks.user_agent import MAX_AGENT
from redirector.rules.fields import field_values

Headers: TypeAlias = list[tuple[bytes, bytes]]

_WHATSAPP = "whatsapp/"
_BROWSER = "mozilla/"

_PURPOSES = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")


def why_uncounted(method: str, headers: Headers) -> str | None:
    """Return `head`, `prefetch` or `preview` for a request that uses up no visit, else None."""
    if method == "HEAD":
        return "head"
    if method != "GET":
        return None
    for name in _PURPOSES:
        if any(is_prefetch(value) for value in field_values(headers, name)):
            return "prefetch"
    if any(is_preview_agent(value) for value in field_values(headers, b"user-agent")):
        return "preview"
    return None


def is_preview_agent(agent: bytes) -> bool:
    """Return whether `agent` is the User-Agent of a program that makes link previews."""
    text = agent[:MAX_AGENT].decode("latin-1").lower()
    if any(mark in text for mark in PREVIEW_AGENTS):
        return True
    # WhatsApp/2.23.20.0 A; its in-app and desktop browsers name a browser beside it.
    return text.startswith(_WHATSAPP) and _BROWSER not in text
