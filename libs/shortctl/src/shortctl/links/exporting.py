"""Export: all links that a filter names, page by page through the API's cursors."""

from collections.abc import Iterator, Mapping

import httpx

from shortctl.client import check

PAGE = 200
"""The API's longest page."""


def pages(
    client: httpx.Client, filters: Mapping[str, str], limit: int | None
) -> Iterator[dict[str, object]]:
    """Yield links, `limit` of them at the most; only one page is in memory at a time."""
    url: str | None = "/api/v1/links"
    params: dict[str, str] | None = {
        **filters,
        "limit": str(min(PAGE, limit) if limit else PAGE),
    }
    count = 0
    while url is not None:
        response = client.get(url, params=params)
        check(response)
        for link in response.json()["items"]:
            yield link
            count += 1
            if count == limit:
                return
        # The next page's address holds the filters, too.
        following = response.links.get("next")
        url, params = (following["url"], None) if following else (None, None)
