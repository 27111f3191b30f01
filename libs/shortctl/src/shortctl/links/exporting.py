"""The command `shortctl links export`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from shortctl.api.client import Key, Refused, Url, fail_with, open_api
from shortctl.api.connection import Connection, NoResponse
from shortctl.links.options import Domain, Form, Status, Tag, Text, file_format, filters
from shortctl.links.pages import pages
from shortctl.links.rows import write_rows
from shortctl.terminal import fail, print_message


def export(
    file: Annotated[str, typer.Argument(help="File to write; - is standard output.")],
    form: Form = None,
    domain: Domain = None,
    tag: Tag = None,
    status: Status = None,
    text: Text = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write links to a CSV or JSONL file, which `shortctl links import` can read.

    The file contains no passwords, because only their hashes are stored. The command prints how
    many of the exported links have a password.
    """
    chosen = file_format(file, form)
    with_password = 0

    def counted(server: Connection) -> Iterator[dict[str, object]]:
        nonlocal with_password
        # Oldest first: links that are created during the export come last and are not missed.
        query = filters(domain, tag, status, text) | {"sort": "created_at"}
        for link in pages(server, query, None):
            with_password += bool(link.get("has_password"))
            yield link

    with open_api(url, key) as server:
        try:
            with _output(file) as stream:
                count = write_rows(stream, chosen, counted(server))
        except (Refused, NoResponse) as error:
            fail_with(error)
        except OSError as error:
            fail(str(error))
    print_message(f"{count} links exported")
    if with_password:
        print_message(f"{with_password} of them have a password, which the file lacks", "yellow")


@contextmanager
def _output(file: str) -> Iterator[TextIO]:
    """Yield the file to write; it gets its name when it is complete."""
    if file == "-":
        yield sys.stdout
        return
    staging = Path(f"{file}.new")
    try:
        with staging.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        staging.replace(file)
    finally:
        staging.unlink(missing_ok=True)
