"""The methods that a link supports, for the header `Allow` (RFC 9110, section 10.2.1).

Every link can be read. A 307 or 308 tells the client to send the same method and body to the target
(RFC 9110, sections 15.4.8 and 15.4.9), so such a link also redirects requests that change something.
"""

from typing import TypeAlias

from redirector.rules.resolve import Decision, Outcome

Methods: TypeAlias = tuple[str, ...]

READ: Methods = ("GET", "HEAD", "OPTIONS")
FORM: Methods = (*READ, "POST")
"""The methods of a link that asks for a password."""
ALL: Methods = (*READ, "POST", "PUT", "PATCH", "DELETE")

_KEEPS_METHOD = frozenset({307, 308})


def allowed(decision: Decision, *, forwards: bool) -> Methods:
    """Return the methods that a link supports if `decision` is that for GET.

    `forwards` is the setting `redirect_other_methods`.
    """
    if decision.outcome is Outcome.PASSWORD:
        return FORM
    leaves = decision.outcome is Outcome.REDIRECT or decision.outcome is Outcome.COUNT
    return ALL if forwards and leaves and decision.status in _KEEPS_METHOD else READ
