"""The command `shortctl clicks rejected`: entries of click streams that no worker could read."""

import base64
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from shortctl.admin.servers import PostgresUrl, open_database, run, settings
from shortctl.terminal import console, print_message, print_result
from writer.worker.rejected import Rejected, delete_rejected, list_rejected

app = typer.Typer(help="Inspect clicks that could not be counted.", no_args_is_help=True)

_PAGE = 50
"""Entries that one query reads: each can have many KB."""


@app.callback()
def clicks() -> None:
    """Inspect clicks that could not be counted."""


@app.command()
def rejected(
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object per entry, with its bytes in Base64."),
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the entries once they have been printed.")
    ] = False,
    postgres_url: PostgresUrl = None,
) -> None:
    """List the entries of click streams that no worker could read, oldest first."""
    url = settings(postgres_url).postgres_url.get_secret_value()
    table = Table("id", "rejected", "stream", "entry", "bytes", "reason", box=None)

    async def work() -> list[int]:
        ids = []
        async for each in _entries(url):
            ids.append(each.id)
            if json:
                print_result(_json(each))
            else:
                table.add_row(
                    str(each.id),
                    f"{each.rejected_at:%Y-%m-%d %H:%M}",
                    str(each.stream),
                    each.entry,
                    str(len(each.data)),
                    each.reason,
                )
        return ids

    ids = run(work())
    if not json:
        console().print(table)
    if delete and ids:
        run(_delete(url, ids))
        print_message(f"{len(ids)} entries deleted")


async def _entries(url: str) -> AsyncIterator[Rejected]:
    last = 0
    async with open_database(url) as database:
        while True:
            async with database.connection() as sql:
                page = await list_rejected(sql, last, _PAGE)
            for each in page:
                yield each
            if not page:
                return
            last = page[-1].id


async def _delete(url: str, ids: list[int]) -> None:
    async with open_database(url) as database, database.connection() as sql:
        await delete_rejected(sql, ids)


def _json(entry: Rejected) -> str:
    fields = entry._asdict() | {"data": base64.b64encode(entry.data).decode()}
    return msgspec.json.encode(fields).decode()
