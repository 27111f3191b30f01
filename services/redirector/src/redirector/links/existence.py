"""Decides what is known about a code before Redis or PostgreSQL is asked.

Every form of a request uses this decision: the code alone, percent-encoded, with a query, with a
path after it, as a preview, or with a password form.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

from redirector.counts import Counts
from redirector.domains.cache import Domain
from redirector.lookup.custom_codes import CustomCodes
from redirector.lookup.lookup import LinkCache
from redirector.lookup.scan_detection import ScanDetector
from redirector.responses.responses import Response
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


class ScanFilter(NamedTuple):
    """The decision as functions, one for each kind of caller; times are of `clock`."""

    existence_of: Callable[[LinkKey, float], Existence]
    """Returns what is known about the code of a key."""

    rejects: Callable[[LinkKey], bool]
    """Returns whether a key is ABSENT; if so, counts it as part of the scan."""

    reject: Callable[[Domain, str, str, float], Response | None]
    """Returns the «not found» response for a domain, a target, their key and the time.

    Counts it as part of the scan. None if the code is not ABSENT.
    """


def make_scan_filter(  # noqa: C901  # counts four functions
    decode: Callable[[str], int | None],
    custom: CustomCodes,
    cache: LinkCache,
    scan: ScanDetector,
    counts: Counts,
    clock: Callable[[], float],
    clean: Clean = clean_path,
) -> ScanFilter:
    """Return the functions. They are closures for speed: each request of a scan calls one.

    A code is ABSENT only during a scan: otherwise a new code is looked up, even if its creation has
    not reached this process yet. A code is never ABSENT if `decode` returns an id for it (whether
    it was generated or chosen), if it may be a custom code, or if the local cache holds a version
    of it.
    """
    find, holds, note = cache.entries.get, custom.holds, scan.note
    values = counts.values
    rejected = counts.lookup("codes", "refused")
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

    def rejects(key: LinkKey) -> bool:
        now = clock()
        if existence_of(key, now) is not _ABSENT:
            return False
        note(now)
        values[rejected] += 1
        return True

    def reject(domain: Domain, target: str, key: str, now: float) -> Response | None:
        host, code = domain.host, target[1:]
        if domain.case_insensitive and match_code(code):
            code = fold_code(code)
            key = f"{host}/{code}"
        existence = known(host, code, key, now)
        if existence is _INVALID:
            path = target.partition("?")[0]
            asked = read_path(path)
            if asked is None and (pasted := clean(path)) is not None:
                asked = read_path(pasted.path)
            if asked is not None:
                code = domain.spelled(asked.code)
                existence = known(host, code, f"{host}/{code}", now)
        if existence is not _ABSENT:
            return None
        note(now)
        values[rejected] += 1
        return domain.not_found

    return ScanFilter(existence_of, rejects, reject)
