"""Entity tags: the version of a link in quotes (RFC 9110, sections 8.8.3 and 13.1)."""

import re

from shortcore.errors import MalformedRequest, VersionMismatch

ETAGS_SCHEMA = {
    "type": "string",
    "pattern": r'^[ \t]*(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)[ \t]*$',
}
"""What If-Match and If-None-Match hold, for the OpenAPI document."""

_TAG = re.compile(r'(W/)?"([!#-~]*)"')
_LIST = re.compile(ETAGS_SCHEMA["pattern"])


def etag(version: int) -> str:
    """Return the strong tag of `version`."""
    return f'"{version}"'


def require_match(header: str | None, version: int) -> None:
    """Raise VersionMismatch unless `If-Match` is absent, `*`, or names `version`.

    Comparison is strong: a weak tag never matches. Raises MalformedRequest for what is no list
    of tags.
    """
    if header is None or header.strip() == "*":
        return
    if (False, str(version)) not in _tags(header, "If-Match"):
        raise VersionMismatch(f"The newest version is {version}; read it and decide again.")


def none_match(header: str | None, version: int) -> bool:
    """Say whether `If-None-Match` names `version`, so that 304 is the answer (weak comparison)."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return str(version) in {tag for _, tag in _tags(header, "If-None-Match")}


def _tags(header: str, name: str) -> list[tuple[bool, str]]:
    if not _LIST.fullmatch(header):
        raise MalformedRequest(f'{name} is a list of tags in quotes, such as "42", or *.')
    return [(match[1] is not None, match[2]) for match in _TAG.finditer(header)]
