"""The hot path: from a key to what answers it, with nothing awaited and nothing made.

It reads the cache's entries directly. A hit costs a look-up, a clock, a comparison, a
look at a mark and two additions; what it may not decide alone it leaves to the slow path.
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
    """Return the function that gives the entry of a key if it may be used now.

    An entry near its end is renewed in the background, once, so that a link in use is never
    looked up while a visitor waits.
    """

    def fresh(key: LinkKey) -> LinkEntry | None:
        entry = cache.entries.get(key)
        if entry is None:
            return None
        now = clock()
        if now >= entry.refresh_at:
            if now >= entry.fresh_until:
                return None
            entry.refresh_at = now + GRACE_S  # again only if this one brings nothing
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
    """Return the function from `host` + path to an entry whose answer suits every request.

    None means: ask the slow path. A path that names no link as such (a preview, a path after
    the code, the root) is no key, and so falls there by itself.
    """
    find = cache.entries.get
    values = counts.values

    def fast_path(key: str) -> LinkEntry | None:
        entry: LinkEntry | None = find(key)  # type: ignore[call-overload]  # any string may be asked for
        if entry is None:
            now = clock()
            return refuse(key, now) if now < scan.until else None
        response = entry.response
        if response is None:
            return None
        if clock() >= entry.refresh_at and fresh(LinkKey(key)) is None:
            now = clock()
            return refuse(key, now) if now < scan.until else None
        if not entry.visited:  # most are, and to read is cheaper than to write
            entry.visited = True
        values[LOCAL_HITS] += 1
        values[response.slot] += 1
        return entry

    return fast_path
