"""The rules for codes that people choose."""

import re

MAX_CUSTOM_LENGTH = 64
"""Maximum length of a custom code, in characters."""

RESERVED_CODES = frozenset(
    {
        # Browsers, crawlers and certificate authorities request these on every host.
        "favicon",
        "robots",
        "sitemap",
        "static",
        "well-known",
        # Reserved for the API, its pages and its documentation, in case they share the host.
        "admin",
        "api",
        "docs",
        "login",
        # Orchestrators and scrapers request these; a link would answer instead of the probe.
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
    """Raise CodeError unless the code is 1 to 64 of `A-Za-z0-9_-` and not a reserved word.

    Reserved words (in lower case) are compared without regard to case, as `/API` would mislead as
    much as `/api`.
    """
    if not 1 <= len(code) <= MAX_CUSTOM_LENGTH:
        raise CodeError("length", f"A code has 1 to {MAX_CUSTOM_LENGTH} characters.")
    if not _CUSTOM.fullmatch(code):
        raise CodeError("charset", "A code is made of the letters A-Z and a-z, digits, - and _.")
    if code.lower() in reserved:
        raise CodeError("reserved", f"The code {code!r} is reserved; choose another one.")
