"""Reads the User-Agent of a click: its text, and whether it is a bot's."""

import codecs
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


def agent_text(agent: bytes) -> str:
    """Return the first MAX_AGENT bytes as text: UTF-8, or else Latin-1 (RFC 9110, 5.5).

    A character of UTF-8 that the limit would split is left out.
    """
    read = agent[:MAX_AGENT]
    try:
        return codecs.utf_8_decode(read, "strict", len(read) == len(agent))[0]
    except UnicodeDecodeError:
        return read.decode("latin-1")


def is_bot(agent: bytes) -> bool:
    """Return whether a user agent names a bot.

    A request without a user agent counts as a bot's: every browser sends one.
    """
    text = agent[:MAX_AGENT].decode("latin-1").lower()
    return not text or _BOT.search(text) is not None
