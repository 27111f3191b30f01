"""Output on the terminal: results, messages, tables, and the error that ends a command."""

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def print_result(text: str) -> None:
    """Print a line of the command's result to standard output."""
    typer.echo(text)


def print_message(text: str, colour: str | None = None) -> None:
    """Print a message to standard error, in colour if standard error is a terminal.

    Like most programs, it prints no colour when the variable `NO_COLOR` is set.
    """
    typer.secho(text, fg=None if "NO_COLOR" in os.environ else colour, err=True)


def fail(message: str) -> NoReturn:
    """Print an error to standard error and end the command with exit code 1."""
    print_message(message, "red")
    raise typer.Exit(1)


@cache
def console(*, err: bool = False) -> "Console":
    """Return the console that prints tables, or with `err` progress bars on standard error."""
    # Few commands need rich; without it the others start in half the time.
    from rich.console import Console  # noqa: PLC0415

    # A pipe has no width: lines that a script reads must not be cut at 80 columns.
    width = None if err or sys.stdout.isatty() else 4000
    return Console(stderr=err, highlight=False, soft_wrap=True, width=width)
