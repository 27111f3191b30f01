"""The paths of links in the API, from what people write."""

from urllib.parse import quote, urlsplit

from shortctl.terminal import fail


def path_of(link: str) -> str:
    """Return the path of a link that is named as host/code or by its short URL.

    Ends the command if `link` is neither.
    """
    parts = urlsplit(link if "://" in link else f"//{link}")
    code = parts.path.removeprefix("/")
    if not parts.hostname or not code:
        fail(f"{link!r} is not a link: write host/code or its short URL.")
    return f"/api/v1/links/{quote_host(parts.hostname)}/{quote(code, safe='')}"


def quote_host(host: str) -> str:
    """Return `host` as a part of a path; an IPv6 address gets brackets."""
    host = host.strip("[]")
    return quote(f"[{host}]" if ":" in host else host, safe="[:]")
