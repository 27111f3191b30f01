"""The cross-origin headers (Fetch Standard, CORS) that every answer carries.

For `*` they are the same for everybody. For a list of origins the answer depends on the origin that
asks: every answer then says so in `Vary`, and `serve.cors` adds that origin.
"""

from typing import Final

from shortcore.origins import ANY_ORIGIN

EXPOSED: Final = "Retry-After"
"""What a script may read of an answer beside the headers that it always may."""


def every_answer(origins: frozenset[str]) -> list[tuple[str, str]]:
    """Return the headers of every answer while scripts of `origins` may ask."""
    if ANY_ORIGIN in origins:
        return [
            ("access-control-allow-origin", ANY_ORIGIN),
            ("access-control-expose-headers", EXPOSED),
        ]
    return [("vary", "Origin")] if origins else []
