"""Answers in the form in which a server sends them, made once wherever that is possible."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

from redirector.counts import Counts
from redirector.pages import Page, Pages
from shortcore.cache.local import Entry
from shortcore.links import REDIRECT_STATUSES, Kind, LinkRecord

Header: TypeAlias = "tuple[str, str] | tuple[bytes, bytes]"
Encode: TypeAlias = Callable[[str, str], Any]

PERMANENT = frozenset({301, 308})
PERMANENT_MAX_AGE_S = 86_400
"""A browser that holds a permanent redirect longer would never see the link edited."""

_PRIVATE = "private, max-age=0"
_NO_STORE = "no-store"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer: its headers are in the server's own form; `slot` counts it."""

    status: int
    headers: list[Any]
    body: bytes
    slot: int


class Plain(msgspec.Struct, frozen=True, gc=False):
    """What all plain redirects with one status have in common; the target is the record's.

    A cached link holds a reference to one of these instead of headers of its own: a third less
    memory, for a concatenation a request. `headers` follow the location; `head` and `tail` stand
    around it on the wire, up to the value of the Date header.
    """

    status: int
    slot: int
    headers: tuple[Any, Any]
    head: bytes
    tail: bytes


def as_bytes(name: str, value: str) -> tuple[bytes, bytes]:
    """Encode a header for ASGI."""
    return name.encode("latin-1"), value.encode("latin-1")


def as_text(name: str, value: str) -> tuple[str, str]:
    """Encode a header for RSGI."""
    return name, value


def status_line(status: int) -> bytes:
    """Return the first line of a response (RFC 9112, section 4)."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


class Answers:
    """Builds every answer of the redirector; `encode` is the server's form of a header."""

    def __init__(
        self, counts: Counts, pages: Pages, *, encode: Encode, not_found_max_age_s: int
    ) -> None:
        self._counts = counts
        self._pages = pages
        self._encode = encode
        self._empty = encode("content-length", "0")
        self._private = encode("cache-control", _PRIVATE)
        self._no_store = encode("cache-control", _NO_STORE)
        self._permanent = encode("cache-control", f"public, max-age={PERMANENT_MAX_AGE_S}")
        # The numbers themselves are shared, too: one object less for the processor to fetch.
        self._redirects = {
            status: (status, counts.answer("redirect", status)) for status in REDIRECT_STATUSES
        }
        self._plain = {status: self._make_plain(status) for status in REDIRECT_STATUSES}
        brief = f"private, max-age={not_found_max_age_s}"
        self.not_found = self.page("not_found", 404, pages.not_found, brief)
        self.not_yet = self.page("not_found", 404, pages.not_found)
        self.gone = self.page("gone", 410, pages.gone, brief)
        self.unavailable = self.page(
            "unavailable", 503, pages.unavailable, more=[("retry-after", "1")]
        )
        self.password = self.page("password", 200, pages.password)
        self.password_wrong = self.page("password_wrong", 403, pages.password_wrong)
        self.home = self.page("home", 200, pages.home, "public, max-age=60")
        self.too_long = self.page("malformed", 414, pages.too_long)
        self.malformed = self.page("malformed", 400, pages.malformed)
        self.too_large = self.page("malformed", 413, pages.too_long)
        self.robots = self.text("robots", 200, "User-agent: *\nAllow: /\n", "public, max-age=86400")
        self.no_icon = self.text("icon", 404, "", "public, max-age=86400")
        self.get_only = self.text("method", 405, "", more=[("allow", "GET, HEAD")])

    def of_record(self, record: LinkRecord, not_found: Answer) -> Plain | Answer:
        """Return the one answer of a plain link (see `resolve.is_plain`)."""
        if record.kind is Kind.ACTIVE:
            return self._plain[record.status_code]
        return self.gone if record.kind is Kind.DELETED else not_found

    def of_entry(self, entry: Entry[Plain | Answer | None]) -> Answer:
        """Return in full what a cached plain link answers."""
        answer = entry.answer
        if isinstance(answer, Plain):
            headers = [self._encode("location", entry.record.target), *answer.headers]
            return Answer(answer.status, headers, b"", answer.slot)
        if answer is None:
            raise TypeError("the link is not plain: its answer depends on the request")
        return answer

    def _make_plain(self, status: int) -> Plain:
        control, text = (
            (self._permanent, f"public, max-age={PERMANENT_MAX_AGE_S}")
            if status in PERMANENT
            else (self._private, _PRIVATE)
        )
        return Plain(
            status,
            self._counts.answer("redirect", status),
            (control, self._empty),
            status_line(status) + b"location: ",
            f"\r\ncache-control: {text}\r\ncontent-length: 0\r\ndate: ".encode(),
        )

    def redirect(
        self, location: str, status: int, *, max_age_s: int = PERMANENT_MAX_AGE_S
    ) -> Answer:
        """Return a redirect; a permanent one may be kept for `max_age_s` at the most."""
        if status not in PERMANENT:
            control = self._private
        elif max_age_s >= PERMANENT_MAX_AGE_S:
            control = self._permanent
        else:
            control = self._encode("cache-control", f"public, max-age={max(0, max_age_s)}")
        headers = [self._encode("location", location), control, self._empty]
        status, slot = self._redirects[status]
        return Answer(status, headers, b"", slot)

    def unstored(self, location: str, status: int, result: str = "redirect") -> Answer:
        """Return a redirect that nobody may keep: it was counted, or took a password."""
        headers = [self._encode("location", location), self._no_store, self._empty]
        return Answer(status, headers, b"", self._counts.answer(result, status))

    def elsewhere(self, location: str, result: str) -> Answer:
        """Return the redirect that stands in for a page (expired, not found, home)."""
        headers = [self._encode("location", location), self._private, self._empty]
        return Answer(302, headers, b"", self._counts.answer(result, 302))

    def throttled(self, retry_after_s: int) -> Answer:
        """Return the refusal of one more password."""
        more = [("retry-after", str(retry_after_s))]
        return self.page("throttled", 429, self._pages.throttled, more=more)

    def preview(self, record: LinkRecord, short: str) -> Answer:
        """Return the page that shows where a link leads."""
        return self.page("preview", 200, self._pages.preview(record, short), _PRIVATE)

    def page(
        self,
        result: str,
        status: int,
        page: Page,
        control: str = _NO_STORE,
        more: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Return an HTML page; it may load nothing and is in no search index."""
        headers = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", str(len(page.body))),
            ("cache-control", control),
            ("content-security-policy", page.policy),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-robots-tag", "noindex"),
            *more,
        ]
        return self._answer(result, status, headers, page.body)

    def text(
        self,
        result: str,
        status: int,
        text: str,
        control: str = _NO_STORE,
        more: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Return plain text."""
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(text))),
            ("cache-control", control),
            ("x-content-type-options", "nosniff"),
            *more,
        ]
        return self._answer(result, status, headers, text.encode("ascii"))

    def _answer(
        self, result: str, status: int, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Answer:
        encoded = [self._encode(name, value) for name, value in headers]
        return Answer(status, encoded, body, self._counts.answer(result, status))
