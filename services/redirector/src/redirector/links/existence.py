"""Decides what is known about a code before Redis or PostgreSQL is asked.

Every form of a request uses this decision: the code alone, percent-encoded, with a query, with a
path after it, as a preview, or with a password form.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

from redirector.counts import Counts
from redirector.domains.cache import Domains
from redirector.lookup.custom_codes import CustomCodes
from redirector.lookup.lookup import LinkCache, LinkEntry
from redirector.lookup.scan_detection import ScanDetector
from redirector.rules.pasted import Clean, clean_path
from redirector.rules.paths import match_code, read_path
from shortcore.links.custom_codes import MAX_CUSTOM_LENGTH
from shortcore.links.folded_codes import fold_code
from shortcore.links.record import LinkKey


class Existence(enum.Enum):
    """What is known about a code.

    There is no member that skips Redis: every code is looked up in Redis first, because Redis may
    have a link while PostgreSQL is down.
    """

    INVALID = "invalid"
    """No link can have this code: it has a character that codes do not have, or too many."""

    ABSENT = "absent"
    """No link has this code: it is neither a generated code nor one of the custom codes."""

    UNKNOWN = "unknown"
    """The code must be looked up, in Redis and then in PostgreSQL."""


_INVALID, _ABSENT, _UNKNOWN = Existence  # access to an enum member costs as much as a call


class Codes(NamedTuple):
    """The decision as functions, one for each kind of caller; times are of `clock`."""

    existence_of: Callable[[LinkKey, float], Existence]
    """Returns what is known about the code of a key."""

    refuses: Callable[[LinkKey], bool]
    """Returns whether a key is ABSENT; if so, counts it as part of the scan."""

    refuse: Callable[[str, float], LinkEntry | None]
    """Returns the «not found» entry for a host and a raw path; None if the code is not ABSENT.

    For the hot path: it also counts the response.
    """


def make_codes(  # noqa: C901  # counts four functions
    decode: Callable[[str], int | None],
    custom: CustomCodes,
    domains: Domains,
    cache: LinkCache,
    scan: ScanDetector,
    counts: Counts,
    clock: Callable[[], float],
    clean: Clean = clean_path,
) -> Codes:
    """Return the functions. They are closures for speed: each request of a scan calls one.

    A code is ABSENT only during a scan: otherwise a new code is looked up, even if its creation has
    not reached this process yet. A code is never ABSENT if `decode` returns an id for it (whether
    it was generated or chosen), if it may be a custom code, or if the local cache holds a version
    of it.
    """
    of_host, find, holds, note = domains.of_host, cache.entries.get, custom.holds, scan.note
    values = counts.values
    refused = counts.lookup("codes", "refused")
    generated = counts.lookup("codes", "generated")
    perhaps_custom = counts.lookup("codes", "custom")

    def known(host: str, code: str, key: str, now: float) -> Existence:
        # Most codes have only letters and digits; these checks are faster than the pattern.
        simple = code.isalnum() and code.isascii() and len(code) <= MAX_CUSTOM_LENGTH
        if not simple and match_code(code) is None:
            return _INVALID
        if now >= scan.until or now >= custom.trusted_until or not host:
            return _UNKNOWN
        if decode(code) is not None:
            values[generated] += 1
            return _UNKNOWN
        if holds(key):
            values[perhaps_custom] += 1
            return _UNKNOWN
        entry = find(key)  # type: ignore[call-overload]  # any string may be requested
        if entry is not None and entry.record.version:
            return _UNKNOWN  # this process has seen the link, or a change of it
        return _ABSENT

    def existence_of(key: LinkKey, now: float) -> Existence:
        host, _, code = key.partition("/")
        return known(host, code, key, now)

    def refuses(key: LinkKey) -> bool:
        now = clock()
        if existence_of(key, now) is not _ABSENT:
            return False
        note(now)
        values[refused] += 1
        return True

    def refuse(sent: str, now: float) -> LinkEntry | None:
        host, _, rest = sent.partition("/")
        domain = of_host(host)
        # The request target was a complete URL, or the response depends on the Host field.
        if domain.host != host or domain.doubtful:
            return None
        if domain.case_insensitive and match_code(rest):
            rest = fold_code(rest)
            sent = f"{host}/{rest}"
        verdict = known(host, rest, sent, now)
        if verdict is _INVALID:
            path = "/" + rest.partition("?")[0]
            asked = read_path(path)
            if asked is None and (pasted := clean(path)) is not None:
                asked = read_path(pasted.path)
            if asked is not None:
                code = domain.spelled(asked.code)
                verdict = known(host, code, f"{host}/{code}", now)
        if verdict is not _ABSENT:
            return None
        note(now)
        values[refused] += 1
        entry = domain.not_found_entry
        values[entry.response.slot] += 1  # type: ignore[union-attr]  # made with one
        return entry

    return Codes(existence_of, refuses, refuse)
