"""Reports of an import: faults of rows, a progress bar, and a summary."""

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer

from shortcore.links.rows import Fault
from shortctl.links.importing.checkpoint import Checkpoint
from shortctl.terminal import console, print_message

SHOWN_FAULTS = 20


@contextmanager
def fault_report(path: Path | None, *, append: bool) -> Iterator[Callable[[Fault], None]]:
    """Yield a function that reports a fault: as CSV to `path`, or the first ones on the terminal."""
    if path is None:
        shown = 0

        def show(fault: Fault) -> None:
            nonlocal shown
            shown += 1
            if shown <= SHOWN_FAULTS:
                place = f"line {fault.line}" + (f", {fault.field}" if fault.field else "")
                print_message(f"{place}: {fault.detail} ({fault.rule})")
            elif shown == SHOWN_FAULTS + 1:
                print_message("More rows failed. --errors FILE writes all errors to a file.")

        yield show
        return
    with path.open("a" if append else "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            table.writerow(("line", "field", "rule", "detail"))

        def write(fault: Fault) -> None:
            table.writerow((fault.line, fault.field, fault.rule, fault.detail))

        yield write


@contextmanager
def progress_bar(stream: BinaryIO, *, size_known: bool) -> Iterator[Callable[[Checkpoint], None]]:
    """Yield a function that updates a progress bar; only a terminal shows the bar."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415  # not imported by scripts, to start faster
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console(err=True), transient=True
    ) as bar:
        size = os.fstat(stream.fileno()).st_size if size_known else None
        task = bar.add_task("", total=size, rows=0)

        def update(reached: Checkpoint) -> None:
            rows = reached.created + reached.already_created + reached.failed
            bar.update(task, rows=rows, completed=stream.tell() if size_known else 0)

        yield update


def print_interrupted(file: str, reached: Checkpoint) -> None:
    """Print the progress of an interrupted import, and how to continue it."""
    print_message(
        f"Interrupted after {reached.created} links created, {reached.failed} rows failed.",
        "yellow",
    )
    if file != "-":
        print_message("The progress is saved: continue with --resume.", "yellow")
    elif not reached.salt:
        print_message("Import the same rows again: no link is created twice.", "yellow")


def print_summary(reached: Checkpoint, verb: str) -> None:
    """Print the counts of an import. Ends the command with exit code 1 if a row failed."""
    print_message(f"{reached.created} links {verb}, {reached.failed} rows failed")
    if reached.already_created:
        print_message(
            f"{reached.already_created} links were already created by an earlier import of these "
            "rows; --create-again would create them again.",
            "yellow",
        )
    if reached.failed:
        raise typer.Exit(1)
