"""The HTML pages for visitors: small, without other files, in light and dark mode."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2

from redirector.responses.display import place_name, shortened, visible
from shortcore.links.record import LinkKey, LinkRecord, split_key

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "page.css").read_text("utf-8").strip()
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_CLOSED = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page and its Content-Security-Policy."""

    body: bytes
    policy: str


class Pages:
    """Renders the pages: a fixed page once, a preview for each request."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.not_found = self._note("Not found", "There is no link here. Check the address.")
        self.disabled = self._note(
            "Switched off", "The owner of this link has disabled it. It may be enabled again."
        )
        self.gone = self._note("Gone", "This link is no longer available.")
        self.loop = self._note(
            "This link leads back here",
            "Its target is on a host of short links, so following it could go round in a circle."
            " Tell the person who sent you the link.",
        )
        self.unavailable = self._note(
            "One moment, please", "This link cannot be looked up right now. Try again shortly."
        )
        self.home = self._note("Short links", "Follow a short link, or add + to it to preview it.")
        self.too_long = self._note("Too long", "This request is longer than a link can take.")
        self.malformed = self._note("Malformed", "This request cannot be read.")
        self.too_late = self._note("Too late", "The rest of this request did not arrive in time.")
        self.unsupported_form = self._note(
            "Unsupported form",
            "Send the password as application/x-www-form-urlencoded or application/json.",
        )
        self.passwords_busy = self._note(
            "One moment, please",
            "Many passwords are being checked right now, and yours was not. Try again shortly.",
        )
        self.throttled = self._note(
            "Too many attempts", "Too many wrong passwords. Wait a minute and try again."
        )
        self.password = self._form(wrong=False)
        self.password_wrong = self._form(wrong=True)

    def not_yet(self, valid_from_ms: int) -> Page:
        """Return the page of a link that cannot be followed before `valid_from_ms` (Unix ms)."""
        opens = datetime.fromtimestamp(valid_from_ms / 1000, UTC)
        return self._render(
            "scheduled.html",
            f"{_CLOSED}; form-action 'none'",
            machine=f"{opens:%Y-%m-%dT%H:%M:%SZ}",
            opens=f"{opens.day} {opens:%B %Y} at {opens:{'%H:%M:%S' if opens.second else '%H:%M'}} UTC",
        )

    def preview(self, record: LinkRecord, short: str, *, at_link: bool = False) -> Page:
        """Return the page that shows what `short` (host/code) leads to.

        The target is hidden if the link has a password or a visit limit. `at_link` says that the
        page is the response at the link's own URL, so that the button requests the same URL again.
        """
        created = datetime.fromtimestamp(record.created_at_ms / 1000, UTC)
        target = None if record.password_hash or record.limited else record.target
        return self._render(
            "preview.html",
            f"{_CLOSED}; form-action 'none'",
            short=short,
            link="" if at_link else f"/{split_key(LinkKey(short))[1]}",
            title=None if record.title is None else visible(record.title),
            target=target,
            place=None if target is None else place_name(target),
            shown=None if target is None else shortened(target),
            locked=record.password_hash is not None,
            created=f"{created:%Y-%m-%d}",
        )

    def _note(self, heading: str, text: str) -> Page:
        return self._render(
            "note.html", f"{_CLOSED}; form-action 'none'", heading=heading, text=text
        )

    def _form(self, *, wrong: bool) -> Page:
        # No form-action: browsers apply it to the redirect after the form, too, and the target
        # may be anywhere.
        return self._render("password.html", _CLOSED, wrong=wrong)

    def _render(self, template: str, policy: str, **values: object) -> Page:
        text = self._environment.get_template(template).render(style=_STYLE, **values)
        return Page(text.encode("utf-8"), policy)
