"""What a CDN is told: which redirects it may hold, for how long, and by which key to drop them.

Off unless asked for, as no redirect of ours is seen, counted or taken back while a CDN answers
it. Held are permanent redirects alone that are the same for everybody and in use (`Entry.renewed`),
and none of them past its link's expiry. See docs/cdn.md.
"""

from dataclasses import dataclass

from redirector.rules.resolve import is_the_same_for_all
from shortcore.links.record import LinkRecord

PERMANENT = frozenset({301, 308})
PERMANENT_MAX_AGE_S = 86_400
"""A browser that holds a permanent redirect longer would never see the link edited."""


@dataclass(frozen=True, slots=True)
class Cdn:
    """`max_age_s` is how long a CDN may hold a redirect (0: not at all).

    For `stale_s` after that it may send the old one while it asks for a new one.
    """

    max_age_s: int
    stale_s: int
    key_header: str

    def may_hold(self, record: LinkRecord) -> bool:
        """Say whether the redirects of a link may be held, as long as it is in use."""
        return (
            self.max_age_s > 0
            and record.redirect_status in PERMANENT
            and is_the_same_for_all(record)
        )

    def control(self, left_s: int | None) -> str:
        """Return Cache-Control for a link with `left_s` to its expiry (RFC 9111, RFC 5861).

        Whoever holds it, and serves it stale, is done with it at the expiry.
        """
        left = PERMANENT_MAX_AGE_S + self.stale_s if left_s is None else max(0, left_s)
        shared = min(self.max_age_s, left)
        stale = min(self.stale_s, left - shared)
        own = min(PERMANENT_MAX_AGE_S, left - stale)
        text = f"public, max-age={own}, s-maxage={shared}"
        return f"{text}, stale-while-revalidate={stale}" if stale else text
