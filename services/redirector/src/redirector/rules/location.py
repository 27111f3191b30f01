"""Writes `Location` as an RFC 3986 reference, which HTTP clients require (RFC 9110, 10.2.2).

Targets are kept in the URL Standard's form, which allows characters that RFC 3986 forbids, such as
`[` in a path or `|` in a query. Java's HttpClient refuses such a `Location`, and Go refuses a `%`
that begins no escape. Percent-encoding these characters changes no meaning: a server decodes them
to the same bytes.
"""

import contextlib
import re

from ada_url import parse_url

_ALLOWED = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?]"
_ESCAPE = r"%[0-9A-Fa-f]{2}"
_PART = rf"{_ALLOWED}*+(?:{_ESCAPE}{_ALLOWED}*+)*+"
_ADDRESS = r"\[[0-9a-fA-F:.]*\](?::[0-9]*)?"

_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?"

_CLEAN_PART = re.compile(_PART)
_CLEAN = re.compile(rf"(?:[a-z]+://{_ADDRESS}(?=[/?#]|\Z))?{_PART}(?:#{_PART})?")
_IN_BRACKETS = re.compile(rf"([a-zA-Z][a-zA-Z0-9+.\-]*://(?:[^/?#]*@)?)({_ADDRESS})(?=[/?#]|\Z)")
_FORBIDDEN = re.compile(r"(?:%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%])+")
_ESCAPES = [f"%{byte:02X}" for byte in range(256)]


def as_reference(url: str) -> str:
    """Percent-encode the characters of `url` that RFC 3986 does not allow in their part of the URL.

    The brackets of an IPv6 address, the `#` before the fragment, and existing escapes are not
    changed, so the function is idempotent. A host that is not ASCII (the writer never stores one)
    becomes punycode.
    """
    if not url.encode().translate(None, _PLAIN) or _CLEAN.fullmatch(url):  # the first is faster
        return url
    if not url.isascii():
        with contextlib.suppress(ValueError):  # no URL: it is escaped as any other text
            url = str(parse_url(url, ("href",))["href"])
    head, hash_sign, fragment = url.partition("#")
    address = _IN_BRACKETS.match(head)
    if address is None:
        head = escape(head)
    else:
        head = escape(address[1]) + address[2] + escape(head[address.end() :])
    return head + hash_sign + escape(fragment)


def escape(part: str) -> str:
    """Percent-encode the characters of `part` that no part of a reference may contain.

    A `#` is encoded as well, because it would end the query to which the part is appended.
    """
    return part if _CLEAN_PART.fullmatch(part) else _FORBIDDEN.sub(_percent, part)


def _percent(match: re.Match[str]) -> str:
    return "".join(map(_ESCAPES.__getitem__, match[0].encode("utf-8", "surrogateescape")))
