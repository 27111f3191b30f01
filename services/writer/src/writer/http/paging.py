"""Pages of a list: size, cursor, and the header Link to other pages."""

from typing import Annotated
from urllib.parse import quote, urlencode

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
    """The requested page. Unknown parameters are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Number = Field(50, ge=1, le=200, description="Maximum number of items.")
    cursor: Annotated[Text, WithJsonSchema(_CURSOR)] | None = Field(
        None, description="`next` of the previous page."
    )


def link_header(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the header Link (RFC 8288) to the first page and, with a `cursor`, to the next one."""
    # The path as it was sent, so that %2F remains; `request.url.path` is decoded and may not fit into
    # a header.
    path = quote(request.scope["raw_path"], safe="%/:")
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]

    def to(rel: str, more: list[tuple[str, str]]) -> str:
        query = urlencode(kept + more)
        return f'<{path}{"?" if query else ""}{query}>; rel="{rel}"'

    links = [to("first", [])]
    if cursor is not None:
        links.append(to("next", [("cursor", cursor)]))
    return {"link": ", ".join(links)}
