"""Decides the response to a request for a link: a pure function of plain values.

`resolve(record, ask, now_ms)` contains all rules of links, without I/O, clock or framework. The
service carries the decision out.
"""

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote

from redirector.rules.location import escape
from shortcore.links.record import Kind, LinkRecord


class Outcome(enum.Enum):
    """The kinds of responses to a request for a link."""

    REDIRECT = "redirect"
    """Send the visitor to `location` with `status`."""
    COUNT = "count"
    """As REDIRECT, but only if the visit was counted in PostgreSQL first."""
    PASSWORD = "password"  # noqa: S105  # the name of an outcome
    """Ask for the password."""
    PREVIEW = "preview"
    """Show where the link leads, without going there."""
    EXPIRED = "expired"
    """Expired or exhausted: send the visitor to `location` instead."""
    GONE = "gone"
    """Expired, exhausted or deleted: 410."""
    NOT_YET = "not_yet"
    """Not valid yet: a 404 that no cache may store."""
    DISABLED = "disabled"
    """Disabled by its owner, who may enable it again: 404."""
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Ask:
    """The parts of a request on which the rules of a link depend.

    `query` is the text after the question mark, `rest` the path after the code with its slash; both
    are percent-encoded. `unlocked` says that the right password was given.
    """

    query: str = ""
    rest: str = ""
    preview: bool = False
    unlocked: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision; `location` and `status` are set if the outcome is a redirect."""

    outcome: Outcome
    location: str = ""
    status: int = 0


_ACTIVE = Kind.ACTIVE  # access to an enum member costs as much as a call
_NOT_FOUND = Decision(Outcome.NOT_FOUND)
_NOT_YET = Decision(Outcome.NOT_YET)
_DISABLED = Decision(Outcome.DISABLED)
_GONE = Decision(Outcome.GONE)
_PASSWORD = Decision(Outcome.PASSWORD)
_PREVIEW = Decision(Outcome.PREVIEW)

# The URL Standard's parser takes both for separators, in `Location`, too.
_SEPARATOR = re.compile(r"[/\\]")


def is_plain(record: LinkRecord) -> bool:
    """Return whether every request for the link gets the same response, at any time."""
    return record.kind is not _ACTIVE or (
        is_the_same_for_all(record)
        and record.valid_from_ms is None
        and record.expires_at_ms is None
    )


def is_the_same_for_all(record: LinkRecord) -> bool:
    """Return whether every request for an active, valid link gets the same response."""
    return not (
        record.limited
        or record.forward_query
        or record.forward_path
        or record.password_hash is not None
    )


def resolve(record: LinkRecord, ask: Ask, now_ms: int) -> Decision:  # noqa: PLR0911  # one a rule
    """Return the decision about `ask` at `now_ms` (Unix ms)."""
    if record.kind is Kind.DELETED:
        return _GONE
    if record.kind is Kind.DISABLED:
        return _DISABLED
    if record.kind is not Kind.ACTIVE:
        return _NOT_FOUND
    if ask.rest and not _accepts(record, ask.rest):
        return _NOT_FOUND
    if record.valid_from_ms is not None and now_ms < record.valid_from_ms:
        return _NOT_YET
    if record.expires_at_ms is not None and now_ms >= record.expires_at_ms:
        return over(record, ask)
    if ask.preview:
        return _PREVIEW
    if record.password_hash is not None and not ask.unlocked:
        return _PASSWORD
    outcome = Outcome.COUNT if record.limited else Outcome.REDIRECT
    return Decision(outcome, location_of(record, ask), record.redirect_status)


def over(record: LinkRecord, ask: Ask) -> Decision:
    """Return the decision for a link past its expiry or its last visit."""
    if record.expired_target is not None:
        query = ask.query if record.forward_query else ""
        return Decision(Outcome.EXPIRED, _extended(record.expired_target, query, ""), 302)
    return _GONE


def location_of(record: LinkRecord, ask: Ask) -> str:
    """Return the target with the forwarded query and path."""
    query = ask.query if record.forward_query else ""
    rest = ask.rest if record.forward_path else ""
    return _extended(record.target, query, rest)


def _extended(target: str, query: str, rest: str) -> str:
    if not query and not rest:
        return target
    head, hash_sign, fragment = target.partition("#")
    path, mark, own_query = head.partition("?")
    if rest:
        path = path.removesuffix("/") + escape(rest)
    if query:
        own_query = f"{own_query}&{escape(query)}" if own_query else escape(query)
        mark = "?"
    return path + mark + own_query + hash_sign + fragment


def _accepts(record: LinkRecord, rest: str) -> bool:
    if not record.forward_path:
        return rest == "/"  # many a program adds a slash at the end
    # Browsers resolve `..` (also escaped) before they send a request, and treat `\` as `/`:
    # remaining ones would leave the path of the target. Many servers decode `%2F` before they
    # resolve, and some leave out the parameters of a segment (`..;x`).
    segments = _SEPARATOR.split(unquote(rest))
    return not any(segment.partition(";")[0] in {".", ".."} for segment in segments)
