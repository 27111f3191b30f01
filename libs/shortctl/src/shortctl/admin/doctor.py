"""The command `shortctl doctor`: checks every part and prints advice for each failure."""

import asyncio
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shortctl.admin.checks import check_all
from shortctl.admin.servers import PostgresUrl, RedisUrl, settings
from shortctl.api.client import Key, Url, api
from shortctl.running_stack import running_stack
from shortctl.terminal import console


def doctor(
    url: Url = None,
    key: Key = None,
    redirector_url: Annotated[
        str | None,
        typer.Option(envvar="SHORTCTL_REDIRECTOR_URL", help="Address of the redirector."),
    ] = None,
    postgres_url: PostgresUrl = None,
    redis_url: RedisUrl = None,
) -> None:
    """Check PostgreSQL, Redis, the outbox, the clicks, clocks, the cache, the API and the redirector.

    Prints advice for each failed check; the exit code is 1 if any check fails.
    """
    found = settings(postgres_url, redis_url)
    stack = running_stack()
    base, headers = api(url, key)
    redirector = redirector_url or (stack.redirector_url if stack else None)
    table = Table("", "part", "result", box=None)
    results = asyncio.run(check_all(found, base, headers, redirector))
    for each in results:
        table.add_row("[green]ok" if each.ok else "[red]FAIL", each.name, escape(each.detail))
        if not each.ok:
            table.add_row("", "", f"[yellow]→ {escape(each.advice)}")
    console().print(table)
    if not all(each.ok for each in results):
        raise typer.Exit(1)
