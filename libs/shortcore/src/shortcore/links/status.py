"""The status of a link: what a visitor meets at a given time."""

import enum
from datetime import datetime
from typing import Protocol


class LinkStatus(enum.StrEnum):
    """The status that a visitor meets: derived from `enabled`, the times, the visits and the trash."""

    ACTIVE = "active"
    DISABLED = "disabled"
    SCHEDULED = "scheduled"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    DELETED = "deleted"


class Limits(Protocol):
    """The fields of a link that decide its status, besides its visits and its deletion."""

    @property
    def enabled(self) -> bool: ...  # noqa: D102  # fields of a link
    @property
    def valid_from(self) -> datetime | None: ...  # noqa: D102
    @property
    def expires_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def max_visits(self) -> int | None: ...  # noqa: D102


def status_at(now: datetime, limits: Limits, visits: int, *, deleted: bool) -> LinkStatus:
    """Return the status of a link at `now`; the rules are checked in the redirector's order."""
    if deleted:
        return LinkStatus.DELETED
    if not limits.enabled:
        return LinkStatus.DISABLED
    if limits.expires_at is not None and limits.expires_at <= now:
        return LinkStatus.EXPIRED
    if limits.max_visits is not None and visits >= limits.max_visits:
        return LinkStatus.EXHAUSTED
    if limits.valid_from is not None and now < limits.valid_from:
        return LinkStatus.SCHEDULED
    return LinkStatus.ACTIVE
