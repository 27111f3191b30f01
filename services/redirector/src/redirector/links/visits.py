"""Counts a visit of a visit-limited link, unless the request is of a kind that uses up no visit.

Such a request gets the redirect without being counted. If `max_visits` is small, it gets the
preview page instead, so that a link preview neither uses up a visit nor reveals the target.
"""

from enum import Enum

from redirector.links.link_previews import Headers, why_uncounted
from redirector.lookup import repository
from shortcore.links.record import LinkKey
from shortcore.runtime.metrics import FromMemory
from shortcore.storage.postgres import Postgres


class Taken(Enum):
    """The response to a request for a visit-limited link with visits left."""

    COUNTED = "counted"
    """The redirect: its visit is counted in PostgreSQL."""
    UNCOUNTED = "uncounted"
    """The redirect, without using up a visit."""
    PREVIEW = "preview"
    """The preview page, without using up a visit."""


class Visits:
    """Counts visits in PostgreSQL; previews links of up to `preview_max_visits` by a page."""

    def __init__(self, primary: Postgres, preview_max_visits: int) -> None:
        self.uncounted = {"head": 0, "prefetch": 0, "preview": 0}
        self._primary = primary
        self._preview_max_visits = preview_max_visits

    async def take(self, key: LinkKey, version: int, method: str, headers: Headers) -> Taken | None:
        """Return the response; None if no visit is left or `version` is not current.

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
