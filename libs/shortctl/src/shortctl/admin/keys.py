"""`shortctl keys`: API keys, made and revoked directly in the database."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from shortctl.admin.servers import PostgresUrl, open_database, run, settings
from shortctl.api.client import die, say, tables, tell
from writer.keys import repository
from writer.keys.secret import digest_of, new_secret

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

_PAGE = 1000
"""Keys that are read at once."""

_SPAN = re.compile(r"(\d{1,5})([hd])", re.ASCII)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Who or what will use it.")],
    expires_in: Annotated[
        str | None, typer.Option(metavar="30d", help="Its life, in days (d) or hours (h).")
    ] = None,
    postgres_url: PostgresUrl = None,
) -> None:
    """Make a key and print it: it is shown this once, only its hash is kept."""
    expires_at = None if expires_in is None else datetime.now(UTC) + _span(expires_in)

    async def add() -> tuple[str, repository.ApiKey]:
        key, prefix = new_secret()
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            return key, await repository.add_key(sql, name, prefix, digest_of(key), expires_at)

    key, made = run(add())
    tell(f"key {made.id} ({made.name}); it is not shown again")
    say(key)


@app.command("list")
def list_(postgres_url: PostgresUrl = None) -> None:
    """List all keys, without their secrets."""

    async def read() -> list[repository.ApiKey]:
        keys: list[repository.ApiKey] = []
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            while page := await repository.list_keys(sql, keys[-1].id if keys else 0, _PAGE):
                keys += page
        return keys

    table = Table("id", "name", "begins with", "created", "last used", "state", box=None)
    now = datetime.now(UTC)
    for key in run(read()):
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
    tables().print(table)


@app.command()
def revoke(
    key_id: Annotated[int, typer.Argument(help="Its id, as `keys list` shows it.")],
    postgres_url: PostgresUrl = None,
) -> None:
    """Revoke a key for ever."""

    async def end() -> bool:
        async with open_database(_url(postgres_url)) as database, database.connection() as sql:
            return await repository.revoke_key(sql, key_id)

    if not run(end()):
        die(f"There is no key {key_id}; `shortctl keys list` shows them.")
    say(f"key {key_id} is revoked")


def _url(postgres_url: str | None) -> str:
    return settings(postgres_url).postgres_url.get_secret_value()


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        die(f"{text!r} is no span of time: write 30d or 12h.")
    return timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))


def _when(instant: datetime | None) -> str:
    return "never" if instant is None else f"{instant:%Y-%m-%d %H:%M}"
