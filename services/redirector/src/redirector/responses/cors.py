"""The headers that every answer carries: those for scripts of other origins, and `Vary`.

For `*` the headers of the Fetch Standard (CORS) are the same for everybody. For a list of origins the
answer depends on the origin that asks: every answer then says so in `Vary`, and `serve.cors` adds that
origin. An answer that depends on a forwarded host says so as well, for caches in front.
"""

from typing import Final

from shortcore.origins import ANY_ORIGIN
from shortcore.settings.redirector import ForwardedHeader

EXPOSED: Final = "Retry-After"
"""What a script may read of an answer beside the headers that it always may."""


def every_response(origins: frozenset[str], forwarded: ForwardedHeader) -> list[tuple[str, str]]:
    """Return the headers of every answer.

    Scripts of `origins` may ask, and `forwarded` names the header of the forwarded host.
    """
    headers = []
    varies = []
    if ANY_ORIGIN in origins:
        headers = [
            ("access-control-allow-origin", ANY_ORIGIN),
            ("access-control-expose-headers", EXPOSED),
        ]
    elif origins:
        varies.append("Origin")
    if forwarded != "none":
        varies.append(forwarded.title())
    return [*headers, ("vary", ", ".join(varies))] if varies else headers
