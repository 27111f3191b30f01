"""Classifies the user agent and the referrer of a click.

The result is a class of a few words, never the header itself: a class has no version that would
tell one visitor from another, and it is short.
"""

import re

from redirector.clicks.preview_agents import PREVIEW_AGENTS

BOTS = (
    "bot", "crawl", "spider", "slurp",  # search engines and most others that name themselves
    "preview", "whatsapp", "cardyb", "mastodon",  # link cards
    "feedfetcher", "google-", "lighthouse", "headless", "pingdom", "uptime", "monitor",
    *PREVIEW_AGENTS,
    "curl/", "wget/", "python-", "go-http-client", "java/", "libwww", "httpclient",
)  # fmt: skip
"""Parts of the user agents of bots, in lower case. (Cubot is a brand of phones and no bot.)"""

MAX_AGENT = 512
"""Bytes of a user agent that are read."""

_BOT = re.compile("(?<!cu)" + "|".join(map(re.escape, BOTS)))
_BROWSERS = (
    ("edg", "edge"), ("opr/", "opera"), ("samsungbrowser", "samsung"), ("firefox/", "firefox"),
    ("fxios", "firefox"), ("crios", "chrome"), ("chrome/", "chrome"), ("safari/", "safari"),
)  # fmt: skip
_SYSTEMS = (
    ("iphone", "ios"), ("ipad", "ios"), ("android", "android"), ("windows", "windows"),
    ("cros ", "chromeos"), ("mac os", "macos"), ("linux", "linux"),
)  # fmt: skip
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_MAX_HOST = 253


def agent_class(agent: bytes) -> str:
    """Return `bot`, or `browser/system/form`, such as `chrome/android/mobile`.

    A request without a user agent counts as a bot: every browser sends one.
    """
    text = agent[:MAX_AGENT].decode("latin-1").lower()
    if not text or _BOT.search(text):
        return "bot"
    browser = next((name for mark, name in _BROWSERS if mark in text), "other")
    system = next((name for mark, name in _SYSTEMS if mark in text), "other")
    if "ipad" in text or (system == "android" and "mobi" not in text):
        form = "tablet"
    elif "mobi" in text:
        form = "mobile"
    else:
        form = "other" if system == "other" else "desktop"
    return f"{browser}/{system}/{form}"


def referrer_host(referrer: bytes) -> str:
    """Return the host of a `Referer` in lower case, or "" if it has none (RFC 9110, 10.1.3)."""
    parts = referrer.split(b"/", 3)
    if len(parts) < 3 or parts[1]:  # noqa: PLR2004  # scheme, nothing, authority
        return ""
    authority = parts[2].rpartition(b"@")[2].partition(b":")[0]
    host = authority.decode("latin-1").lower()
    if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
        return ""
    return host.removesuffix(".")


def is_prefetch(purpose: bytes) -> bool:
    """Return whether `Sec-Purpose` (Fetch), `Purpose`, `X-Purpose` or `X-Moz` names a prefetch."""
    text = purpose.lower()
    return b"prefetch" in text or b"preview" in text or b"prerender" in text
