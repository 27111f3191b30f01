"""The command `shortlinks-writer`: serve, relay, worker, migrate, wait-schema, create-key.

Each command imports what it needs when it runs: loading the framework or Alembic takes longer than
the work of most commands, and pods wait for migrations.
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
from shortcore.settings.loader import load
from shortcore.settings.relay import RelaySettings
from shortcore.settings.storage import PostgresSettings
from shortcore.settings.worker import WorkerSettings
from shortcore.settings.writer import WriterSettings
from shortcore.storage.postgres import POSTGRES_UNAVAILABLE_ERRORS
from shortcore.storage.schema import REVISION, revision
from shortcore.storage.schema_wait import (
    SchemaWait,
    check_connection,
    check_schema_at,
    wait_for_schema,
)

CONFIGURATION_ERROR = 2

MAX_KEY_TTL_S = 100 * 366 * 86_400
"""Maximum TTL of an API key, in seconds. Python cannot represent dates much further ahead."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; prints each configuration error on a line of stderr and exits with 2."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except TaskFailed:
        raise SystemExit(1) from None  # it has been logged
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command line prints
        raise SystemExit(CONFIGURATION_ERROR) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shortlinks-writer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, help_ in (
        ("serve", _serve, "serve the API"),
        ("relay", _relay, "deliver changes from the outbox to Redis"),
        ("worker", _worker, "count clicks from Redis in PostgreSQL"),
    ):
        commands.add_parser(name, help=help_).set_defaults(run=run)
    for name, waiting, help_, seconds in (
        ("migrate", _migrate, "upgrade the database schema", 60.0),
        ("wait-schema", _wait_schema, "wait until the database schema fits", 600.0),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument(
            "--wait-s",
            type=float,
            default=seconds,
            help="timeout of the wait for PostgreSQL and its schema, in seconds (%(default)s)",
        )
        command.set_defaults(run=waiting)
    key = commands.add_parser("create-key", help="create an API key and print it")
    key.add_argument("--name", required=True, help="name of the key's owner")
    key.add_argument(
        "--expires-in-s", type=_ttl, help="TTL of the key in seconds; no expiry if unset"
    )
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


def _worker(_: argparse.Namespace) -> None:
    from writer.worker import process  # noqa: PLC0415

    settings = load(WorkerSettings)
    logging.configure(settings.log_level, settings.log_format, "worker")
    uvloop.run(process.run(settings))


def _migrate(arguments: argparse.Namespace) -> None:
    url = load(PostgresSettings).postgres_url.get_secret_value()
    with _ReportingErrors():
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
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigurationError(
            f"PostgreSQL did not answer within {arguments.wait_s:g} s: {reason}"
        ) from error


def _create_key(arguments: argparse.Namespace) -> None:
    from writer.keys.service import create_key  # noqa: PLC0415

    url = load(PostgresSettings).postgres_url.get_secret_value()
    ttl_s = arguments.expires_in_s
    expires_at = None if ttl_s is None else datetime.now(UTC) + timedelta(seconds=ttl_s)

    async def run() -> str:
        async with (
            asyncpg.create_pool(url, min_size=1, max_size=1, timeout=10) as pool,
            pool.acquire() as connection,
        ):
            _, secret = await create_key(connection, arguments.name, expires_at)
        return secret

    with _ReportingErrors():
        print(asyncio.run(run()))  # noqa: T201  # a command line prints


def _ttl(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_KEY_TTL_S:
        raise argparse.ArgumentTypeError(f"a whole number of seconds, 1 to {MAX_KEY_TTL_S}")
    return int(text)


class _ReportingErrors:
    """Turns errors of PostgreSQL and of the network into a ConfigurationError of one line."""

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
