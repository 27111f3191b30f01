"""The cookie of a visitor who gave a link's password; it replaces the password for a short time.

The value is `<expiry, Unix s>.<MAC>`. The MAC covers the link's key and id, the expiry and the
password hash, so the cookie opens one link only, and a new password (its salt is new, too) revokes
it. The MAC's key is derived from the code secret, which all redirectors share.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable

from redirector.rules.fields import field_values
from shortcore.links.record import LinkKey, LinkRecord

NAME = b"shortlinks-visitor"

_PURPOSE = b"shortlinks: cookie of a visitor who gave the password, version 1"
_SKEW_S = 60
"""Maximum difference between the clocks of two redirectors."""
_CANDIDATES = 4
"""Cookies of this name that are tried: a browser may send those of several paths."""
_VALUE = re.compile(rb"([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})")
_SEGMENT = re.compile(r"/[A-Za-z0-9_%-]{1,192}", re.ASCII)


class VisitorCookies:
    """Makes and checks cookies; with a `ttl_s` of 0 it makes no cookie and accepts none."""

    def __init__(self, secret: bytes, ttl_s: int, now_ms: Callable[[], int]) -> None:
        self._key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
        self._ttl_s = ttl_s
        self._now_ms = now_ms

    def make(
        self, key: LinkKey, record: LinkRecord, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> bytes | None:
        """Return the value of `Set-Cookie` for a visitor who gave the right password at `path`."""
        # Browsers compare the path with that of the request, including its escapes.
        segment = _SEGMENT.match(path)
        if not self._ttl_s or segment is None:
            return None
        expires_s = self._now_ms() // 1000 + self._ttl_s
        value = b"%d.%b" % (expires_s, self._mac(key, record, expires_s))
        secure = b"; Secure" if is_https(headers) else b""
        return b"%b=%b; Path=%b; Max-Age=%d; HttpOnly; SameSite=Lax%b" % (
            NAME, value, segment[0].encode("ascii"), self._ttl_s, secure,
        )  # fmt: skip

    def proves(
        self, key: LinkKey, record: LinkRecord, headers: Iterable[tuple[bytes, bytes]]
    ) -> bool | None:
        """Return whether a cookie proves that the visitor gave this password; None if there is none."""
        if not self._ttl_s:
            return None
        values = _cookies(headers)
        if not values:
            return None
        return any(self._is_valid(key, record, value) for value in values[:_CANDIDATES])

    def _is_valid(self, key: LinkKey, record: LinkRecord, value: bytes) -> bool:
        match = _VALUE.fullmatch(value)
        if match is None:
            return False
        expires_s = int(match[1])
        # With the upper bound, a shorter `ttl_s` also applies to existing cookies.
        left_s = expires_s - self._now_ms() // 1000
        if not 0 < left_s <= self._ttl_s + _SKEW_S:
            return False
        return hmac.compare_digest(match[2], self._mac(key, record, expires_s))

    def _mac(self, key: LinkKey, record: LinkRecord, expires_s: int) -> bytes:
        text = f"{key}\n{record.link_id}\n{expires_s}\n{record.password_hash}"
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=")


def is_https(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a proxy reports that the visitor uses https.

    Any client can send these fields, but they affect only an attribute of its own cookie.
    """
    for value in field_values(headers, b"x-forwarded-proto"):
        if value.rpartition(b",")[2].strip().lower() == b"https":
            return True
    return any(b"proto=https" in value.lower() for value in field_values(headers, b"forwarded"))


def _cookies(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    start = NAME + b"="
    return [
        pair.strip().removeprefix(start)
        for field in field_values(headers, b"cookie")
        if start in field
        for pair in field.split(b";")
        if pair.strip().startswith(start)
    ]
