"""Looks up cached links in use again before they expire, so that no visitor waits."""

from collections.abc import Callable
from typing import TypeAlias

from redirector.lookup.lookup import GRACE_S, LinkCache, LinkEntry
from shortcore.links.record import LinkKey

Fresh: TypeAlias = Callable[[LinkKey], LinkEntry | None]


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
