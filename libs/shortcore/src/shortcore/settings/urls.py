"""URLs of servers: inserts a separate password, and removes credentials for logs."""

from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr


def redact_url(url: str) -> str:
    """Return `url` without its credentials and its query, for logs and `/health`."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def with_password(values: dict[str, Any], password: str, *urls: str) -> dict[str, Any]:
    """Insert the setting `password` into the settings `urls` that have no password.

    Kubernetes operators often create a Secret with the password alone. This works for any password,
    whereas a URL that a template composes would break at an `@` in the password.
    """
    secret = _text(values.get(password))
    if not secret:
        return values
    result = dict(values)
    for name in urls:
        url = _text(values.get(name))
        if not url:
            continue
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        if ":" not in user:
            netloc = f"{user}:{quote(secret, safe='')}@{hosts}"
            result[name] = parts._replace(netloc=netloc).geturl()
    return result


def _text(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else None
