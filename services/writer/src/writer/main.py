"""The command `shortlinks-writer`: serve, relay, migrate, wait-schema, create-key.

Each imports what it needs when it runs: the framework, or Alembic, take longer to load than most
of them to do their work, and pods wait for migrations.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import uvloop

from shortcore.errors import ConfigurationError, SchemaOlder, TaskFailed
from shortcore.runtime import logging
from shortcore.settings import PostgresSettings, RelaySettings, WriterSettings, load
from shortcore.storage.postgres import POSTGRES_UNAVAILABLE_ERRORS
from shortcore.storage.schema import REVISION, revision
from shortcore.storage.schema_wait import (
    SchemaWait,
    check_connection,
    check_schema_at,
    wait_for_schema,
)

CONFIGURATION_FAULT = 2

LONGEST_LIFE_S = 100 * 366 * 86_400
"""Of a key that ends: a date beyond what Python can write is a slip of the finger."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a fault of configuration is a line each on stderr and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except TaskFailed:
        raise SystemExit(1) from None  # logged where it happened
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command line prints
        raise SystemExit(CONFIGURATION_FAULT) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shortlinks-writer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, help_ in (
        ("serve", _serve, "serve the API"),
        ("relay", _relay, "bring changes from the outbox to Redis"),
    ):
        commands.add_parser(name, help=help_).set_defaults(run=run)
    for name, waiting, help_, seconds in (
        ("migrate", _migrate, "bring the database schema up to date", 60.0),
        ("wait-schema", _wait_schema, "return when the database schema fits", 600.0),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument(
            "--wait-s",
            type=float,
            default=seconds,
            help="how long it waits for PostgreSQL to come up, or the schema to fit (%(default)s)",
        )
        command.set_defaults(run=waiting)
    key = commands.add_parser("create-key", help="make an API key and print it")
    key.add_argument("--name", required=True, help="whose key it is")
    key.add_argument("--expires-in-s", type=_life, help="its life in seconds; endless if unset")
    key.set_defaults(run=_create_key)
    return parser


def _serve(_: argparse.Namespace) -> None:
    from writer.app import process  # noqa: PLC0415

    settings = load(WriterSettings)
    logging.configure(settings.log_level, settings.log_format, "writer")
    uvloop.run(process.run(settings))


def _relay(_: argparse.Namespace) -> None:
    from writer.relay import process  # noqa: PLC0415

    settings = load(RelaySettings)
    logging.configure(settings.log_level, settings.log_format, "relay")
    uvloop.run(process.run(settings))


def _migrate(arguments: argparse.Namespace) -> None:
    url = load(PostgresSettings).postgres_url.get_secret_value()
    with _Away():
        policy = SchemaWait(retry_on=POSTGRES_UNAVAILABLE_ERRORS, timeout_s=arguments.wait_s)
        asyncio.run(wait_for_schema(partial(check_connection, url), policy))
        if asyncio.run(revision(url)) == REVISION:
            return
        from writer.migrations import upgrade  # noqa: PLC0415

        upgrade(url)


def _wait_schema(arguments: argparse.Namespace) -> None:
    url = load(PostgresSettings).postgres_url.get_secret_value()
    policy = SchemaWait(
        retry_on=(*POSTGRES_UNAVAILABLE_ERRORS, SchemaOlder), timeout_s=arguments.wait_s
    )
    try:
        asyncio.run(wait_for_schema(partial(check_schema_at, url), policy))
    except POSTGRES_UNAVAILABLE_ERRORS as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigurationError(
            f"PostgreSQL could not be asked within {arguments.wait_s:g} s: {said}"
        ) from error


def _create_key(arguments: argparse.Namespace) -> None:
    from writer.keys.service import create_key  # noqa: PLC0415

    url = load(PostgresSettings).postgres_url.get_secret_value()
    life = arguments.expires_in_s
    expires_at = None if life is None else datetime.now(UTC) + timedelta(seconds=life)

    async def run() -> str:
        async with (
            asyncpg.create_pool(url, min_size=1, max_size=1, timeout=10) as pool,
            pool.acquire() as connection,
        ):
            _, secret = await create_key(connection, arguments.name, expires_at)
        return secret

    with _Away():
        print(asyncio.run(run()))  # noqa: T201  # a command line prints


def _life(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= LONGEST_LIFE_S:
        raise argparse.ArgumentTypeError(f"a whole number of seconds, 1 to {LONGEST_LIFE_S}")
    return int(text)


class _Away:
    """Turns what PostgreSQL and the way to it say into one line for the operator."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncpg.UndefinedTableError):
            raise ConfigurationError(
                "The database has no schema yet: run `shortctl migrate`."
            ) from error
        if isinstance(
            error, (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
        ):
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigurationError(f"SHORTLINKS_POSTGRES_URL: {first}") from error
