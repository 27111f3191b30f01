"""Takes a visit of a limited link, unless the request is of a kind that uses up none.

Such a request gets the redirect uncounted, or, where every visit matters (`max_visits` is small),
the preview page: then a link preview neither uses up nor shows what is meant for one person.
"""

from enum import Enum

from redirector.links.link_previews import Headers, why_uncounted
from redirector.lookup import repository
from shortcore.links.record import LinkKey
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.postgres import Postgres


class Taken(Enum):
    """What a request for a limited link with visits left gets."""

    COUNTED = "counted"
    """The redirect: its visit is counted in PostgreSQL."""
    UNCOUNTED = "uncounted"
    """The redirect, without using up a visit."""
    PREVIEW = "preview"
    """The preview page, without using up a visit."""


class Visits:
    """`take` asks PostgreSQL; links of up to `preview_max_visits` are previewed by their page."""

    def __init__(self, primary: Postgres, preview_max_visits: int) -> None:
        self.uncounted = {"head": 0, "prefetch": 0, "preview": 0}
        self._primary = primary
        self._preview_max_visits = preview_max_visits

    async def take(self, key: LinkKey, version: int, method: str, headers: Headers) -> Taken | None:
        """Return what the request gets; None if no visit is left or `version` is not current.

        Raises DatabaseUnavailable.
        """
        why = why_uncounted(method, headers)
        if why is None:
            counted = await repository.count_visit(self._primary, key, version)
            return Taken.COUNTED if counted else None
        limit = await repository.limit_with_visits_left(self._primary, key, version)
        if limit is None:
            return None
        self.uncounted[why] += 1
        return Taken.PREVIEW if limit <= self._preview_max_visits else Taken.UNCOUNTED

    def export(self, memory: FromMemory) -> None:
        """Add the metric of requests that used up no visit."""
        memory.counter(
            "shortlinks_uncounted_visits",
            "Requests for visit-limited links that used up no visit",
            lambda: self.uncounted,
            "reason",
        )
