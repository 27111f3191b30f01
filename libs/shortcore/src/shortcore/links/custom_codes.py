"""The rules for codes that people choose."""

import re

MAX_CUSTOM_LENGTH = 64
"""Maximum length of a custom code, in characters."""

RESERVED_CODES = frozenset(
    {
        # Asked for by browsers, crawlers and certificate authorities on every host.
        "favicon",
        "robots",
        "sitemap",
        "static",
        "well-known",
        # Kept for the API, its pages and its documentation, should they share the host.
        "admin",
        "api",
        "docs",
        "login",
        # Probed by orchestrators and scrapers; a link there would answer in a probe's place.
        "health",
        "healthz",
        "livez",
        "metrics",
        "readyz",
    }
)

_CUSTOM = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class CodeError(ValueError):
    """A custom code was refused: `rule` is a stable name, the text a sentence for its author.

    Rules: `length`, `charset`, `reserved`.
    """

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


def check_custom_code(code: str, reserved: frozenset[str] = RESERVED_CODES) -> None:
    """Accept 1 to 64 of `A-Za-z0-9_-` that are no reserved word; raise CodeError otherwise.

    Codes are case-sensitive in most domains, but `reserved` (in lower case) is compared without regard to case,
    as `/API` would mislead as much as `/api`.
    """
    if not 1 <= len(code) <= MAX_CUSTOM_LENGTH:
        raise CodeError("length", f"A code has 1 to {MAX_CUSTOM_LENGTH} characters.")
    if not _CUSTOM.fullmatch(code):
        raise CodeError("charset", "A code is made of the letters A-Z and a-z, digits, - and _.")
    if code.lower() in reserved:
        raise CodeError("reserved", f"The code {code!r} is reserved; choose another one.")
