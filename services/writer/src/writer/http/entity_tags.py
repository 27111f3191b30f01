"""Entity tags: the version of a link in quotes (RFC 9110, sections 8.8.3 and 13.1)."""

import re

from shortcore.errors import MalformedRequest, VersionMismatch

ETAGS_SCHEMA = {
    "type": "string",
    "pattern": r'^[ \t]*(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)[ \t]*$',
}
"""The value of If-Match and If-None-Match, for the OpenAPI document."""

_TAG = re.compile(r'(W/)?"([!#-~]*)"')
_LIST = re.compile(ETAGS_SCHEMA["pattern"])


def etag(version: int) -> str:
    """Return the strong tag of `version`."""
    return f'"{version}"'


def require_match(header: str | None, version: int) -> None:
    """Raise VersionMismatch unless `If-Match` is absent, `*`, or names `version`.

    The comparison is strong: a weak tag never matches. Raises MalformedRequest for an invalid list
    of tags.
    """
    if header is None or header.strip() == "*":
        return
    if (False, str(version)) not in _tags(header, "If-Match"):
        raise VersionMismatch(f"The current version is {version}; read it and try again.")


def none_match(header: str | None, version: int) -> bool:
    """Return whether `If-None-Match` names `version`, so that the status is 304 (weak comparison)."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return str(version) in {tag for _, tag in _tags(header, "If-None-Match")}


def require_none_match(header: str | None, version: int) -> None:
    """Raise VersionMismatch if `If-None-Match` is `*`, or names `version` (weak comparison)."""
    if none_match(header, version):
        raise VersionMismatch(f"It exists already, at version {version}.")


def require_absence(if_match: str | None) -> None:
    """Raise VersionMismatch for any `If-Match`: there is nothing that it could name."""
    if if_match is not None:
        raise VersionMismatch("It does not exist, so no version of it matches.")


def _tags(header: str, name: str) -> list[tuple[bool, str]]:
    if not _LIST.fullmatch(header):
        raise MalformedRequest(f'{name} is a list of tags in quotes, such as "42", or *.')
    return [(match[1] is not None, match[2]) for match in _TAG.finditer(header)]
