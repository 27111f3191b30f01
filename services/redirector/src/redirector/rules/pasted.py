"""Removes extra characters from pasted short URLs: `/code.`, `/code%20`, `//code`.

Only characters that no code can contain are removed, so an existing code is never taken for another
one.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

MAX_JUNK = 64
"""Maximum extra characters after a code; if there are more, nothing is removed."""

_MAX_ESCAPED = 3 * 65 + 12 * MAX_JUNK  # four bytes of UTF-8, each escaped
_END = re.compile(r"[/&]")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}\+?", re.ASCII)
_SYMBOLS = frozenset("<>|`~^=")
_OF_CODES = frozenset("-_/")  # a slash is never part of junk, however it is escaped


class Pasted(NamedTuple):
    """The path and the query without the extra characters.

    `repeated` says that only slashes after the code were repeated: a link that forwards its path
    forwards them unchanged.
    """

    path: str
    query: str
    repeated: bool


Clean: TypeAlias = Callable[[str], Pasted | None]


def never(_: str) -> None:
    """Return None: replaces `clean_path` if the setting disables the cleaning."""


def clean_path(raw: str) -> Pasted | None:
    """Return the cleaned path and query, or None if `raw` is not a pasted short URL."""
    start = raw.lstrip("/")
    end = _END.search(start)
    segment = start if end is None else start[: end.start()]
    after = start[len(segment) :]
    if not segment or len(segment) > _MAX_ESCAPED:
        return None
    text = unquote(segment) if "%" in segment else segment
    code = _without_junk(text)
    return None if code is None else _meant(raw, code, after, exact=code == text)


def _meant(raw: str, code: str, after: str, *, exact: bool) -> Pasted | None:
    leading = raw.startswith("//")
    if after.startswith("&"):
        return Pasted("/" + code, after[1:].removeprefix("amp;"), repeated=False)
    if after.strip("/"):  # a path that a link may forward
        if leading and exact and not code.endswith("+"):
            return Pasted(f"/{code}{after}", "", repeated=False)
        return None
    if exact and not leading and len(after) < len("//"):
        return None
    return Pasted(f"/{code}", "", repeated=exact and not leading)


def _without_junk(text: str) -> str | None:
    end = len(text)
    while end and _is_junk(text[end - 1]):
        end -= 1
    if len(text) - end > MAX_JUNK or _CODE.fullmatch(text, 0, end) is None:
        return None
    return text[:end]


def _is_junk(character: str) -> bool:
    """Return whether `character` is punctuation, whitespace, invisible, or a bracket of markup."""
    return character in _SYMBOLS or (
        unicodedata.category(character)[0] in "PZC" and character not in _OF_CODES
    )
