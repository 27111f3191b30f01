"""Builds responses in the form in which a server sends them, once wherever possible."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeAlias

import msgspec

from redirector.counts import Counts
from redirector.responses.cdn import PERMANENT, PERMANENT_MAX_AGE_S, Cdn
from redirector.responses.pages import Page, Pages
from redirector.rules.methods import ALL, FORM, READ
from shortcore.cache.local import Entry
from shortcore.links.record import REDIRECT_STATUSES, LinkKey, LinkRecord

Header: TypeAlias = tuple[bytes, bytes]

HELD_BYTES = 330
"""Bytes of a response that a CDN may hold, without its tail, as measured by test_cdn.py."""

_PRIVATE = "private, max-age=0"
_NO_STORE = "no-store"


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete response; `slot` is its counter."""

    status: int
    headers: list[Header]
    body: bytes
    slot: int


class Plain(msgspec.Struct, frozen=True, gc=False):
    """The common part of all plain redirects with one status; the target comes from the record.

    A cached link has a reference to a `Plain` instead of its own headers. This saves a third of its
    memory and costs a concatenation per request. (A link that a CDN may hold has its own `Plain`,
    because the headers contain its key.) `headers` follow the location; `head` and `tail` are the
    bytes before and after it, up to the value of the Date header.
    """

    status: int
    slot: int
    headers: tuple[Header, ...]
    head: bytes
    tail: bytes


def as_bytes(name: str, value: str) -> Header:
    """Encode a header for ASGI."""
    return name.encode("latin-1"), value.encode("latin-1")


def status_line(status: int) -> bytes:
    """Return the first line of a response (RFC 9112, section 4)."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


class Responses:
    """Builds every response of the redirector.

    A redirect that a CDN may not hold is `private`, for browsers only. Every response has the
    headers `every`.
    """

    def __init__(
        self,
        counts: Counts,
        pages: Pages,
        cdn: Cdn,
        *,
        not_found_max_age_s: int,
        every: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._counts = counts
        self._pages = pages
        self._cdn = cdn
        self._every = tuple(as_bytes(name, value) for name, value in every)
        self._every_text = "".join(f"{name}: {value}\r\n" for name, value in every)
        self._empty = (as_bytes("content-length", "0"), *self._every)
        self._private = as_bytes("cache-control", _PRIVATE)
        self._no_store = as_bytes("cache-control", _NO_STORE)
        self._permanent = as_bytes("cache-control", _own(PERMANENT_MAX_AGE_S))
        self._held_control = as_bytes("cache-control", cdn.control(None))
        self._held = {status: counts.response("held", status) for status in PERMANENT}
        self._plain: dict[int, Plain] = {
            status: self._make_plain(status) for status in REDIRECT_STATUSES
        }
        self._to_targets = {*self._held.values(), *(each.slot for each in self._plain.values())}
        brief = f"private, max-age={not_found_max_age_s}"
        self.not_found = self.page("not_found", 404, pages.not_found, brief)
        self.unknown_host = self.page("unknown_host", 404, pages.not_found, brief)
        self.disabled = self.page("disabled", 404, pages.disabled, brief)
        self.gone = self.page("gone", 410, pages.gone, brief)
        self.loop = self.page("loop", 508, pages.loop, brief)
        self.unavailable = self.page(
            "unavailable", 503, pages.unavailable, more=[("retry-after", "1")]
        )
        self.password = self.page("password", 200, pages.password)
        self.password_wrong = self.page("password_wrong", 403, pages.password_wrong)
        self.home = self.page("home", 200, pages.home, "public, max-age=60")
        self.too_long = self.page("malformed", 414, pages.too_long)
        self.malformed = self.page("malformed", 400, pages.malformed)
        self.malformed_host = self.page("malformed_host", 400, pages.malformed)
        self.unsupported_form = self.page("malformed", 415, pages.unsupported_form)
        self.passwords_busy = self.page(
            "passwords_busy", 503, pages.passwords_busy, more=[("retry-after", "5")]
        )
        self.too_late = self.page("malformed", 408, pages.too_late)
        self.too_large = self.page("malformed", 413, pages.too_long)
        self.robots = self.text("robots", 200, "User-agent: *\nAllow: /\n", "public, max-age=86400")
        self.no_icon = self.text("icon", 404, "", "public, max-age=86400")
        self.not_allowed = {
            methods: self._not_allowed(", ".join(methods)) for methods in (READ, FORM, ALL)
        }
        self.options = {
            methods: self._response(
                "options", 204, [("allow", ", ".join(methods)), ("cache-control", _NO_STORE)], b""
            )
            for methods in (READ, FORM, ALL)
        }

    def of_plain(self, key: LinkKey, record: LinkRecord, in_use: bool) -> tuple[Plain, int]:
        """Return the response of an active plain link (`resolve.is_plain`), and its unshared size."""
        if in_use and self._cdn.may_hold(record):
            held = self._make_held(key, record.redirect_status)
            return held, HELD_BYTES + len(held.tail)
        return self._plain[record.redirect_status], 0

    def of_entry(self, entry: Entry[Plain | Response | None]) -> Response:
        """Return the complete response of a cached plain link."""
        response = entry.response
        if isinstance(response, Plain):
            headers = [as_bytes("location", entry.record.target), *response.headers]
            return Response(response.status, headers, b"", response.slot)
        if response is None:
            raise TypeError("the link is not plain: its answer depends on the request")
        return response

    def _make_plain(self, status: int) -> Plain:
        control, text = (
            (self._permanent, _own(PERMANENT_MAX_AGE_S))
            if status in PERMANENT
            else (self._private, _PRIVATE)
        )
        return Plain(
            status,
            self._counts.response("redirect", status),
            (control, *self._empty),
            status_line(status) + b"location: ",
            f"\r\ncache-control: {text}\r\ncontent-length: 0\r\n{self._every_text}date: ".encode(),
        )

    def _make_held(self, key: LinkKey, status: int) -> Plain:
        control, name = self._cdn.control(None), self._cdn.key_header
        tail = (
            f"\r\ncache-control: {control}\r\n{name}: {key}\r\ncontent-length: 0\r\n"
            f"{self._every_text}date: "
        )
        return Plain(
            status,
            self._held[status],
            (self._held_control, as_bytes(name, key), *self._empty),
            self._plain[status].head,
            tail.encode(),
        )

    def of_link(
        self, key: LinkKey, record: LinkRecord, location: str, *, left_s: int | None, in_use: bool
    ) -> Response:
        """Return the redirect of a link that is not plain and expires in `left_s` (None: never)."""
        status = record.redirect_status
        if in_use and self._cdn.may_hold(record):
            name, control = self._cdn.key_header, self._cdn.control(left_s)
            more = [as_bytes("cache-control", control), as_bytes(name, key)]
            slot = self._held[status]
        else:
            more = [self._control(status, left_s)]
            slot = self._plain[status].slot
        return Response(status, [as_bytes("location", location), *more, *self._empty], b"", slot)

    def _control(self, status: int, left_s: int | None) -> Header:
        if status not in PERMANENT:
            return self._private
        if left_s is None or left_s >= PERMANENT_MAX_AGE_S:
            return self._permanent
        return as_bytes("cache-control", _own(left_s))

    def unstored(self, location: str, status: int, result: str = "redirect") -> Response:
        """Return a redirect that no cache may store: it used up a visit or needed a password."""
        headers = [as_bytes("location", location), self._no_store, *self._empty]
        return Response(status, headers, b"", self._counts.response(result, status))

    def cleaned(self, response: Response, status: int) -> Response:
        """Return the response to a URL that was pasted with extra characters.

        A redirect to a link's target gets `status` and `no-store`, because the same URL leads
        elsewhere once a link with exactly this code is created, or this link is changed.
        """
        if response.slot not in self._to_targets:
            return response
        location = next(value for name, value in response.headers if name == b"location")
        return self.unstored(location.decode("ascii"), status, "cleaned")

    def elsewhere(self, location: str, result: str) -> Response:
        """Return the redirect that replaces a page (expired, not found, home)."""
        headers = [as_bytes("location", location), self._private, *self._empty]
        return Response(302, headers, b"", self._counts.response(result, 302))

    def _not_allowed(self, methods: str) -> Response:
        return self.text("method", 405, f"Allowed here: {methods}.\n", more=[("allow", methods)])

    def not_yet(self, valid_from_ms: int) -> Response:
        """Return the page of a link that cannot be followed yet."""
        return self.page("scheduled", 404, self._pages.not_yet(valid_from_ms))

    def throttled(self, retry_after_s: int) -> Response:
        """Return the response to a client that has sent too many wrong passwords."""
        more = [("retry-after", str(retry_after_s))]
        return self.page("throttled", 429, self._pages.throttled, more=more)

    def preview(self, record: LinkRecord, short: str) -> Response:
        """Return the page that shows where a link leads."""
        return self.page("preview", 200, self._pages.preview(record, short), _PRIVATE)

    def preview_of_limited(self, record: LinkRecord, short: str) -> Response:
        """Return the preview page instead of a redirect that would use up a visit."""
        page = self._pages.preview(record, short, at_link=True)
        return self.page("limited_preview", 200, page)

    def page(
        self,
        result: str,
        status: int,
        page: Page,
        control: str = _NO_STORE,
        more: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """Return an HTML page; it may load nothing and is excluded from search indexes."""
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
        return self._response(result, status, headers, page.body)

    def text(
        self,
        result: str,
        status: int,
        text: str,
        control: str = _NO_STORE,
        more: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """Return plain text."""
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(text))),
            ("cache-control", control),
            ("x-content-type-options", "nosniff"),
            *more,
        ]
        return self._response(result, status, headers, text.encode("ascii"))

    def _response(
        self, result: str, status: int, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Response:
        encoded = [*(as_bytes(name, value) for name, value in headers), *self._every]
        return Response(status, encoded, body, self._counts.response(result, status))


def _own(max_age_s: int) -> str:
    return f"private, max-age={max(0, max_age_s)}"
