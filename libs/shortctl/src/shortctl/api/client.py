"""Where the API is and how to ask it: options, then environment, then a running stack.

`SHORTCTL_URL` and `SHORTCTL_KEY` name it; what they leave out is taken from `.state/dev.json`,
which `shortctl dev` writes.
"""

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

from shortcore.errors import ShortlinksError
from shortctl.api.connection import Answer, Connection, NoAnswer

# What few commands need is imported where it is used: the rest start in half the time.
if TYPE_CHECKING:
    from rich.console import Console

    from shortctl.dev.state import Facts

DEV_FILE = Path(".state/dev.json")
BAD_REQUEST = 400

Url = Annotated[str | None, typer.Option("--url", envvar="SHORTCTL_URL", help="The API's address.")]
Key = Annotated[
    str | None, typer.Option("--key", envvar="SHORTCTL_KEY", help="An API key.", show_envvar=True)
]


class Refused(Exception):
    """The API refused a request: its status, its sentence and the fields that it names."""

    def __init__(self, status: int, detail: str, errors: list[Mapping[str, str]]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def say(text: str) -> None:
    """Print a line of what was asked for."""
    typer.echo(text)


def tell(text: str, colour: str | None = None) -> None:
    """Print a line for the person on standard error, in colour if that is a terminal."""
    typer.secho(text, fg=None if "NO_COLOR" in os.environ else colour, err=True)


@cache
def tables(*, err: bool = False) -> "Console":
    """Return what prints tables, or on standard error shows how far a command has come."""
    from rich.console import Console  # noqa: PLC0415  # see above

    # A pipe has no width: what a script reads must not be cut at 80 columns.
    width = None if err or sys.stdout.isatty() else 4000
    return Console(stderr=err, highlight=False, soft_wrap=True, width=width)


def die(message: str) -> NoReturn:
    """End with a sentence on standard error and exit code 1."""
    tell(message, "red")
    raise typer.Exit(1)


def dev_facts() -> "Facts | None":
    """Return where the stack of this working directory is, or None when none runs."""
    from shortctl.dev.state import Facts  # noqa: PLC0415  # see above

    try:
        return msgspec.json.decode(DEV_FILE.read_bytes(), type=Facts)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        die(f"{DEV_FILE}: {error}")


def api(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    """Return the API's address and the headers of every request; ends when one is unknown."""
    if url is None or key is None:
        facts = dev_facts()
        # The key of a local stack is no business of another server.
        if facts is not None and url in (None, facts.writer_url):
            url, key = facts.writer_url, key or facts.api_key
    if url is None:
        die("Where is the API? Give --url or SHORTCTL_URL, or start one with `shortctl dev`.")
    if key is None:
        die("Give an API key by SHORTCTL_KEY or --key; `shortctl keys create` makes one.")
    return url.rstrip("/"), {"authorization": f"Bearer {key}", "user-agent": "shortctl"}


def request(
    server: Connection,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask the API; raises Refused for an answer of 400 or above."""
    content = None if body is None else msgspec.json.encode(body)
    sent = {"content-type": "application/json"} if body is not None else {}
    answer = server.ask(method, path, content, {**sent, **(headers or {})})
    check(answer)
    return answer


def check(answer: Answer) -> None:
    """Raise Refused for an answer of 400 or above."""
    if answer.status < BAD_REQUEST:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or f"{answer.status} {answer.reason}"
    raise Refused(answer.status, str(detail), list(problem.get("errors", ())))


def open_api(url: str | None, key: str | None) -> Connection:
    """Return a connection to the API, which is made when it is used."""
    base, headers = api(url, key)
    try:
        return Connection(base, headers)
    except ValueError as error:
        die(str(error))


def explain(error: Exception) -> NoReturn:
    """End with what `error` means to the person at the terminal."""
    if isinstance(error, Refused):
        lines = [error.detail]
        lines += [f"  {each['pointer']}: {each['detail']}" for each in error.errors]
        die("\n".join(lines))
    if isinstance(error, NoAnswer):
        die(f"The API does not answer: {error}")
    if isinstance(error, ShortlinksError):
        die(error.detail)
    die(str(error))
