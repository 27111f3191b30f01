"""Pages of a list: how long a page is, after which cursor it begins, and where the next one is."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from writer.http.cursors import MAX_LENGTH
from writer.http.fields import Number, Text

_CURSOR = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_LENGTH,
    "pattern": "^[A-Za-z0-9_-]+$",
}


class PageQuery(BaseModel):
    """Which page; a parameter that does not exist is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Number = Field(50, ge=1, le=200, description="Items in a page.")
    cursor: Annotated[Text, WithJsonSchema(_CURSOR)] | None = Field(
        None, description="`next` of the page before."
    )


def link_header(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the header Link (RFC 8288), which leads to the first page and to the one at `cursor`."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]

    def to(rel: str, more: list[tuple[str, str]]) -> str:
        query = urlencode(kept + more)
        return f'<{request.url.path}{"?" if query else ""}{query}>; rel="{rel}"'

    links = [to("first", [])]
    if cursor is not None:
        links.append(to("next", [("cursor", cursor)]))
    return {"link": ", ".join(links)}
