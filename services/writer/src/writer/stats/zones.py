"""The time zones of the IANA database, by name."""

import functools
from importlib.resources import files
from zoneinfo import ZoneInfo


@functools.cache
def _names() -> frozenset[str]:
    # Not those of the machine: it may have zones with leap seconds, or none at all.
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


def find_zone(name: str) -> ZoneInfo | None:
    """Return the zone `name`, such as Europe/Berlin, or None if there is none."""
    return ZoneInfo(name) if name in _names() else None
