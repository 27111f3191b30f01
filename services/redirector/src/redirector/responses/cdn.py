"""The headers for a CDN: which redirects it may hold, for how long, and the key to purge them.

It is disabled by default, because a redirect that a CDN answers is not counted and cannot be
changed at once. A CDN may hold only permanent redirects of links in use (`Entry.renewed`) that are
the same for everybody, and never past the link's expiry. See docs/cdn.md.
"""

from dataclasses import dataclass

from redirector.rules.resolve import is_the_same_for_all
from shortcore.links.record import LinkRecord

PERMANENT = frozenset({301, 308})
PERMANENT_MAX_AGE_S = 86_400
"""A browser that keeps a permanent redirect longer would miss edits of the link."""


@dataclass(frozen=True, slots=True)
class Cdn:
    """The limits for a CDN: it may hold a redirect for `max_age_s` (0: not at all).

    For `stale_s` after that, it may send the old redirect while it requests the new one.
    """

    max_age_s: int
    stale_s: int
    key_header: str

    def may_hold(self, record: LinkRecord) -> bool:
        """Return whether a CDN may hold the redirects of a link while it is in use."""
        return (
            self.max_age_s > 0
            and record.redirect_status in PERMANENT
            and is_the_same_for_all(record)
        )

    def control(self, left_s: int | None) -> str:
        """Return Cache-Control for a link with `left_s` to its expiry (RFC 9111, RFC 5861).

        No cache keeps the redirect past the expiry, even if it serves stale responses.
        """
        left = PERMANENT_MAX_AGE_S + self.stale_s if left_s is None else max(0, left_s)
        shared = min(self.max_age_s, left)
        stale = min(self.stale_s, left - shared)
        own = min(PERMANENT_MAX_AGE_S, left - stale)
        text = f"public, max-age={own}, s-maxage={shared}"
        return f"{text}, stale-while-revalidate={stale}" if stale else text
