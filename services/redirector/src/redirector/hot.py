"""The hot path: from a key to what answers it, with nothing awaited and nothing made.

It reads the cache's entries directly. A hit costs a look-up, a clock, a comparison, a
look at a mark and two additions; what it may not decide alone it leaves to the slow path.
"""

from collections.abc import Callable

from redirector.counts import LOCAL_HITS, Counts
from redirector.custom_codes import CustomCodes
from redirector.domains import Domains
from redirector.lookup import GRACE_S, LinkCache, LinkEntry
from redirector.scan import Scan
from shortcore.codes import CodeSpace
from shortcore.links import LinkKey

MAX_CODE = 64

Hot = Callable[[str], LinkEntry | None]
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


def make_refuse(
    codes: CodeSpace, custom: CustomCodes, domains: Domains, scan: Scan, counts: Counts
) -> Refuse:
    """Return the function that gives the «not found» of a key that cannot exist, without I/O.

    None where a look-up must tell. It is asked only during a scan, of which what it refuses is
    part; writers tell of a new custom code before they answer that it is made.
    """
    decode, trusted, holds, note = codes.decode, custom.trusted, custom.holds, scan.note
    of_host = domains.of_host
    values = counts.values
    refused = counts.lookup("codes", "refused")

    def refuse(key: str, now: float) -> LinkEntry | None:
        host, _, code = key.partition("/")
        if not (host and code.isalnum() and code.isascii() and len(code) <= MAX_CODE and trusted()):
            return None
        if decode(code) is not None or holds(key):
            return None
        note(now)
        entry = of_host(host).nowhere
        values[refused] += 1
        values[entry.answer.slot] += 1  # type: ignore[union-attr]  # made with one
        return entry

    return refuse


def make_hot(
    cache: LinkCache,
    fresh: Fresh,
    scan: Scan,
    refuse: Refuse,
    counts: Counts,
    clock: Callable[[], float],
) -> Hot:
    """Return the function from `host` + path to an entry whose answer suits every request.

    None means: ask the slow path. A path that names no link as such (a preview, a path after
    the code, the root) is no key, and so falls there by itself.
    """
    find = cache.entries.get
    values = counts.values

    def hot(key: str) -> LinkEntry | None:
        entry: LinkEntry | None = find(key)  # type: ignore[call-overload]  # any string may be asked for
        if entry is None:
            now = clock()
            return refuse(key, now) if now < scan.until else None
        answer = entry.answer
        if answer is None:
            return None
        if clock() >= entry.refresh_at and fresh(LinkKey(key)) is None:
            return None
        if not entry.visited:  # most are, and to read is cheaper than to write
            entry.visited = True
        values[LOCAL_HITS] += 1
        values[answer.slot] += 1
        return entry

    return hot
