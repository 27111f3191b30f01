"""The commands `shortctl keys`: create, list and revoke API keys, directly in the database."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from shortctl.admin.servers import PostgresUrl, open_database, run, settings
from shortctl.terminal import console, fail, print_message, print_result
from writer.keys import repository
from writer.keys.secret import digest_of, new_secret

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

_PAGE = 1000
"""Keys that one query reads."""

_DURATION = re.compile(r"(\d{1,5})([hd])", re.ASCII)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Name of the person or program that will use the key.")],
    expires_in: Annotated[
        str | None,
        typer.Option(metavar="30d", help="Time until it expires, in days (d) or hours (h)."),
    ] = None,
    postgres_url: PostgresUrl = None,
) -> None:
    """Create an API key and print it.

    The key cannot be shown again: the database holds only its hash.
    """
    expires_at = None if expires_in is None else datetime.now(UTC) + _duration(expires_in)

    async def create_key() -> tuple[str, repository.ApiKey]:
        key, prefix = new_secret()
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            return key, await repository.add_key(sql, name, prefix, digest_of(key), expires_at)

    key, created = run(create_key())
    print_message(f"key {created.id} ({created.name}); it is not shown again")
    print_result(key)


@app.command("list")
def list_(postgres_url: PostgresUrl = None) -> None:
    """List all API keys, without their secrets."""

    async def read_keys() -> list[repository.ApiKey]:
        keys: list[repository.ApiKey] = []
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            while page := await repository.list_keys(sql, keys[-1].id if keys else 0, _PAGE):
                keys += page
        return keys

    table = Table("id", "name", "prefix", "created", "last used", "state", box=None)
    now = datetime.now(UTC)
    for key in run(read_keys()):
        state = "active"
        if key.revoked_at is not None:
            state = f"revoked {_when(key.revoked_at)}"
        elif key.expires_at is not None:
            state = f"{'expired' if key.expires_at <= now else 'until'} {_when(key.expires_at)}"
        table.add_row(
            str(key.id),
            key.name,
            f"sl_{key.prefix}",
            _when(key.created_at),
            _when(key.last_used_at),
            state,
        )
    console().print(table)


@app.command()
def revoke(
    key_id: Annotated[int, typer.Argument(help="Id of the key; see `shortctl keys list`.")],
    postgres_url: PostgresUrl = None,
) -> None:
    """Revoke an API key. This cannot be undone."""

    async def revoke_key() -> bool:
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            return await repository.revoke_key(sql, key_id)

    if not run(revoke_key()):
        fail(f"There is no key {key_id}; `shortctl keys list` shows all keys.")
    print_result(f"key {key_id} is revoked")


def _url(postgres_url: str | None) -> str:
    return settings(postgres_url).postgres_url.get_secret_value()


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        fail(f"{text!r} is not a duration: write days or hours, such as 30d or 12h.")
    return timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))


def _when(instant: datetime | None) -> str:
    return "never" if instant is None else f"{instant:%Y-%m-%d %H:%M}"
