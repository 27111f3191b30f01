"""Reads all links that match a filter, page by page."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

from shortctl.api.client import request
from shortctl.api.connection import Connection

PAGE = 200
"""The maximum page size of the API."""


def pages(
    server: Connection, filters: Mapping[str, str | list[str]], limit: int | None
) -> Iterator[dict[str, object]]:
    """Yield links, at most `limit`; only one page is in memory at a time."""
    query: dict[str, str | list[str]] = {
        **filters,
        "limit": str(min(PAGE, limit) if limit else PAGE),
    }
    count = 0
    while True:
        page = request(server, "GET", f"/api/v1/links?{urlencode(query, doseq=True)}").json()
        for link in page["items"]:
            yield link
            count += 1
            if count == limit:
                return
        if page["next"] is None:
            return
        query["cursor"] = page["next"]
