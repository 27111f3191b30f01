"""The command `shortctl links list`."""

from typing import Annotated

import typer

from shortctl.api.client import Key, Refused, Url, fail_with, open_api
from shortctl.api.connection import NoResponse
from shortctl.links.crud import show
from shortctl.links.options import Domain, Json, Status, Tag, Text, filters
from shortctl.links.pages import pages
from shortctl.terminal import console


def list_(
    domain: Domain = None,
    tag: Tag = None,
    status: Status = None,
    text: Text = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of links.")] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List links, newest first."""
    from rich.table import Table  # noqa: PLC0415  # imported only by commands that print a table

    table = Table("short URL", "target", "status", "title", box=None)
    with open_api(url, key) as server:
        try:
            for link in pages(server, filters(domain, tag, status, text), limit):
                if json:
                    show(link, json=True)
                else:
                    columns = ("short_url", "target", "status", "title")
                    table.add_row(*(str(link[name] or "") for name in columns))
        except (Refused, NoResponse) as error:
            fail_with(error)
    if not json:
        console().print(table)
