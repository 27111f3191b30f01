"""The headers of every response: those for scripts of other origins (CORS), and `Vary`.

For `*`, the CORS headers (Fetch Standard) are the same for every request. For a list of origins,
the response depends on the origin of the request: every response then has `Vary: Origin`, and
`http.cors` adds the origin. If responses depend on a forwarded host, `Vary` names its header, too.
"""

from typing import Final

from shortcore.origins import ANY_ORIGIN
from shortcore.settings.redirector import ForwardedHeader

EXPOSED: Final = "Retry-After"
"""Response headers that a script may read in addition to those that are always allowed."""


def every_response(origins: frozenset[str], forwarded: ForwardedHeader) -> list[tuple[str, str]]:
    """Return the headers of every response.

    Scripts of `origins` may read responses; `forwarded` names the header of the forwarded host.
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
