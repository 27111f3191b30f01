"""Builds responses in the form in which a server sends them, once wherever possible."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeAlias

import msgspec

from redirector.counts import Counts
from redirector.responses.cdn import PERMANENT, PERMANENT_MAX_AGE_S, Cdn
from redirector.responses.pages import Page, Pages
from redirector.rules.methods import ALL, FORM, READ
from shortcore.clicks.wire import Flag
from shortcore.links.record import REDIRECT_STATUSES, LinkKey, LinkRecord

Header: TypeAlias = tuple[bytes, bytes]

RESPONSE_BYTES = 48
"""Size of a response besides its template, its location and the id of its link."""

HELD_BYTES = 350
"""Bytes of the template of a response that a CDN may hold, without `after` (see test_cdn.py)."""

NO_LINK = -1
"""Stands for the id of a link in a response that follows none; 0 is the id of the first link."""

_PRIVATE = "private, max-age=0"
_NO_STORE = "no-store"


class Template(msgspec.Struct, frozen=True, gc=False):
    """What responses of one kind have in common: everything but the location.

    On the wire, a response is `before`, the location, `after`, the value of the Date header, an
    empty line, and the body. `headers` has neither Location nor Date. `counter` is the response's
    place in `Counts`. `click_flags` are flags of the click, if there is one.
    """

    status: int
    headers: tuple[Header, ...]
    body: bytes
    counter: int
    before: bytes
    after: bytes
    click_flags: int = 0


class Response(msgspec.Struct, frozen=True, gc=False):
    """A response: a template, and the location that is put into it ("" for a page).

    `link_id` is the id of the link that is followed, for its click; NO_LINK for any other response.

    Each cached link has one, and all links with the same redirect status share a template. So a
    response takes 48 bytes per link, and a local cache hit creates nothing.
    """

    template: Template
    location: str = ""
    link_id: int = NO_LINK

    @property
    def status(self) -> int:
        """The status code."""
        return self.template.status

    @property
    def headers(self) -> list[Header]:
        """The headers, without Date."""
        headers = self.template.headers
        return [as_bytes("location", self.location), *headers] if self.location else [*headers]

    @property
    def body(self) -> bytes:
        """The body."""
        return self.template.body


def as_bytes(name: str, value: str) -> Header:
    """Encode a header."""
    return name.encode("latin-1"), value.encode("latin-1")


def make_template(
    status: int,
    headers: Sequence[Header],
    counter: int,
    *,
    body: bytes = b"",
    redirects: bool = False,
    click_flags: int = 0,
) -> Template:
    """Return a template; one that `redirects` has a place for a location."""
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()  # RFC 9112, section 4
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"date: "
    before, after = (line + b"location: ", b"\r\n" + fields) if redirects else (line + fields, b"")
    return Template(status, tuple(headers), body, counter, before, after, click_flags)


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
        self._empty = (as_bytes("content-length", "0"), *self._every)
        self._private = as_bytes("cache-control", _PRIVATE)
        self._no_store = as_bytes("cache-control", _NO_STORE)
        self._permanent = as_bytes("cache-control", _own(PERMANENT_MAX_AGE_S))
        self._shared_control = as_bytes("cache-control", cdn.control(None))
        self._fixed_controls = {self._private, self._no_store, self._permanent}
        self._templates: dict[tuple[str, int, Header], Template] = {}
        self._plain = {
            status: self._redirect("redirect", status, self._control(status, None))
            for status in REDIRECT_STATUSES
        }
        self._held = {
            status: self._redirect("held", status, self._shared_control) for status in PERMANENT
        }
        to_targets = (*self._plain.values(), *self._held.values())
        self._to_targets = {each.counter for each in to_targets}
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

    def of_plain(self, key: LinkKey, record: LinkRecord, in_use: bool) -> tuple[Response, int]:
        """Return the response of an active plain link (`resolve.is_plain`), and its size."""
        if in_use and self._cdn.may_hold(record):
            held = self._held_template(key, record.redirect_status, self._shared_control)
            response = Response(held, record.target, record.link_id)
            return response, RESPONSE_BYTES + HELD_BYTES + len(held.after)
        plain = self._plain[record.redirect_status]
        return Response(plain, record.target, record.link_id), RESPONSE_BYTES

    def _held_template(self, key: LinkKey, status: int, control: Header) -> Template:
        shared = self._held[status]
        headers = (control, as_bytes(self._cdn.key_header, key), *self._empty)
        fields = b"".join(b"%b: %b\r\n" % header for header in headers)
        after = b"\r\n" + fields + b"date: "
        return Template(status, headers, b"", shared.counter, shared.before, after)

    def of_link(
        self, key: LinkKey, record: LinkRecord, location: str, *, left_s: int | None, in_use: bool
    ) -> Response:
        """Return the redirect of a link that is not plain and expires in `left_s` (None: never)."""
        status = record.redirect_status
        if in_use and self._cdn.may_hold(record):
            control = as_bytes("cache-control", self._cdn.control(left_s))
            template = self._held_template(key, status, control)
        else:
            template = self._redirect("redirect", status, self._control(status, left_s))
        return Response(template, location, record.link_id)

    def _redirect(
        self, result: str, status: int, control: Header, *, click_flags: int = 0
    ) -> Template:
        """Return the template of redirects, made once for each Cache-Control that never changes."""
        template = self._templates.get((result, status, control))
        if template is None:
            counter = self._counts.response(result, status)
            headers = (control, *self._empty)
            template = make_template(
                status, headers, counter, redirects=True, click_flags=click_flags
            )
            if control in self._fixed_controls:
                self._templates[result, status, control] = template
        return template

    def _control(self, status: int, left_s: int | None) -> Header:
        if status not in PERMANENT:
            return self._private
        if left_s is None or left_s >= PERMANENT_MAX_AGE_S:
            return self._permanent
        return as_bytes("cache-control", _own(left_s))

    def unstored(
        self, location: str, status: int, link_id: int, result: str = "redirect"
    ) -> Response:
        """Return a redirect that no cache may store: it used up a visit or needed a password."""
        return Response(self._redirect(result, status, self._no_store), location, link_id)

    def cleaned(self, response: Response, status: int) -> Response:
        """Return the response to a URL that was pasted with extra characters.

        A redirect to a link's target gets `status` and `no-store`, because the same URL leads
        elsewhere once a link with exactly this code is created, or this link is changed.
        """
        if response.template.counter not in self._to_targets:
            return response
        return self.unstored(response.location, status, response.link_id, "cleaned")

    def with_cookie(self, response: Response, cookie: bytes) -> Response:
        """Return `response` with a Set-Cookie header."""
        template = response.template
        made = make_template(
            template.status,
            [*template.headers, (b"set-cookie", cookie)],
            template.counter,
            body=template.body,
            redirects=bool(response.location),
            click_flags=template.click_flags,
        )
        return Response(made, response.location, response.link_id)

    def elsewhere(self, location: str, result: str) -> Response:
        """Return the redirect that replaces a page (not found, home)."""
        return Response(self._redirect(result, 302, self._private), location)

    def expired(self, location: str, link_id: int) -> Response:
        """Return the redirect to the target that a link has after its end."""
        template = self._redirect("expired", 302, self._private, click_flags=int(Flag.EXPIRED))
        return Response(template, location, link_id)

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
        counter = self._counts.response(result, status)
        return Response(make_template(status, encoded, counter, body=body))


def _own(max_age_s: int) -> str:
    return f"private, max-age={max(0, max_age_s)}"
