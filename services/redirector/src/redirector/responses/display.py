"""Makes foreign text safe to show, so that it cannot mislead about where a link leads."""

import re

from redirector.rules.loops import place_of

SHOWN = 160
"""Maximum characters of a target that are shown without a click."""

_HEAD, _TAIL = 110, 40

# Controls of the Unicode Bidirectional Algorithm (UAX 9), line breaks of Unicode, and C0 and C1: they
# reorder or hide what stands around them.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """Return `text` with each control character replaced by its number, such as `[U+202E]`."""
    return _CONTROLS.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def shortened(target: str) -> str:
    """Return `target`, shortened in the middle if it is long."""
    return target if len(target) <= SHOWN else f"{target[:_HEAD]}…{target[-_TAIL:]}"


def place_name(target: str) -> str:
    """Return the host of a target, or its scheme if it is not a web page."""
    place = place_of(target)
    return target.partition(":")[0] + ":" if place is None else place.host
