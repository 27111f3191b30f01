"""The hot path: finds the response of a key without awaiting or creating anything.

It reads the entries of the local cache directly. A hit costs a dict lookup, a clock, two
comparisons and two additions. All other requests take the slow path.
"""

from collections.abc import Callable

from redirector.counts import LOCAL_HITS, Counts
from redirector.lookup.lookup import GRACE_S, LinkCache, LinkEntry
from redirector.lookup.scan_detection import ScanDetector
from shortcore.links.record import LinkKey

FastPath = Callable[[str], LinkEntry | None]
Refuse = Callable[[str, float], LinkEntry | None]
Fresh = Callable[[LinkKey], LinkEntry | None]


def make_fresh(
    cache: LinkCache, renew: Callable[[LinkKey], None], clock: Callable[[], float]
) -> Fresh:
    """Return a function that returns the entry of a key if it is fresh, otherwise None.

    An entry close to the end of its TTL is looked up again in the background, once, so that no
    visitor waits for the lookup of a link in use.
    """

    def fresh(key: LinkKey) -> LinkEntry | None:
        entry = cache.entries.get(key)
        if entry is None:
            return None
        now = clock()
        if now >= entry.refresh_at:
            if now >= entry.fresh_until:
                return None
            entry.refresh_at = now + GRACE_S  # the next attempt, if this lookup fails
            renew(key)
        entry.visited = True
        return entry

    return fresh


def make_fast_path(
    cache: LinkCache,
    fresh: Fresh,
    scan: ScanDetector,
    refuse: Refuse,
    counts: Counts,
    clock: Callable[[], float],
) -> FastPath:
    """Return a function that finds the entry of `host` + path if its response fits every request.

    If it returns None, the request takes the slow path. So does a path that is not just a code (a
    preview, a path after the code, the root), because it is not a key.
    """
    find = cache.entries.get
    values = counts.values

    def fast_path(key: str) -> LinkEntry | None:
        entry: LinkEntry | None = find(key)  # type: ignore[call-overload]  # any string may be requested
        if entry is None:
            now = clock()
            return refuse(key, now) if now < scan.until else None
        response = entry.response
        if response is None:
            return None
        if clock() >= entry.refresh_at and fresh(LinkKey(key)) is None:
            now = clock()
            return refuse(key, now) if now < scan.until else None
        if not entry.visited:  # most are, and reading is cheaper than writing
            entry.visited = True
        values[LOCAL_HITS] += 1
        values[response.slot] += 1
        return entry

    return fast_path
