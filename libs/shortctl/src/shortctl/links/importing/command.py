"""The command `shortctl links import`."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from shortcore.links.rows import Fault, Format, UnreadableError, read_rows
from shortctl.api.client import Key, Refused, Url, fail_with, open_api
from shortctl.api.connection import NoResponse
from shortctl.links.importing.checkpoint import Checkpoint, CheckpointFile
from shortctl.links.importing.importer import IN_FLIGHT, Importer, OtherFileError
from shortctl.links.importing.report import (
    fault_report,
    print_interrupted,
    print_summary,
    progress_bar,
)
from shortctl.links.options import Form, file_format
from shortctl.terminal import fail

INTERRUPTED = 130
"""The exit code after Ctrl-C, by the convention of shells: 128 plus the number of the signal."""


def import_(
    file: Annotated[str, typer.Argument(help="File to read; - is standard input.")],
    form: Form = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate the rows without sending them.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted import of this file.")
    ] = False,
    create_again: Annotated[
        bool,
        typer.Option(
            "--create-again",
            help="Create links even for rows that were imported in the last 24 hours.",
        ),
    ] = False,
    errors: Annotated[
        Path | None, typer.Option(help="Write the errors of all failed rows to this CSV file.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create links from a CSV file (with a header row) or a JSONL file.

    A row that fails does not stop the import; the exit code is 1 if any row failed. Running an
    import again creates no link twice.
    """
    chosen = file_format(file, form)
    if resume and (file == "-" or dry_run):
        fail("--resume cannot be combined with standard input or --dry-run.")
    if resume and create_again:
        fail("--resume cannot be combined with --create-again.")
    salt = os.urandom(8).hex() if create_again else ""
    checkpoints = CheckpointFile(None if file == "-" or dry_run else Path(f"{file}.import"))
    since = _load(checkpoints, file) if resume else None
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            on_fault = stack.enter_context(fault_report(errors, append=since is not None))
        except OSError as error:
            fail(str(error))
        on_progress = stack.enter_context(progress_bar(stream, size_known=file != "-"))
        importer = None
        try:
            if dry_run:
                reached = _validate(stream, chosen, on_fault, on_progress)
            else:
                servers = [open_api(url, key) for _ in range(IN_FLIGHT)]
                importer = Importer(servers, checkpoints, on_fault, on_progress)
                with closing(read_rows(stream, chosen)) as rows:
                    importer.run(rows, since, salt=salt)
                reached = importer.reached
        except (KeyboardInterrupt, UnreadableError, Refused, NoResponse) as error:
            if importer is not None:
                print_interrupted(file, importer.reached)
            if isinstance(error, KeyboardInterrupt):
                raise typer.Exit(INTERRUPTED) from None
            if isinstance(error, UnreadableError):
                fail(f"{file}: {error}")
            fail_with(error)
        except OtherFileError:
            fail(f"{file} has changed since the import was interrupted: run it without --resume.")
    print_summary(reached, "would be created" if dry_run else "created")


def _load(checkpoints: CheckpointFile, file: str) -> Checkpoint | None:
    try:
        return checkpoints.load()
    except ValueError as error:
        fail(f"{file}.import is not a checkpoint file: {error}")


def _validate(
    stream: BinaryIO,
    form: Format,
    on_fault: Callable[[Fault], None],
    on_progress: Callable[[Checkpoint], None],
) -> Checkpoint:
    # Only a dry run needs the rules of links, whose import takes half of the time of a start.
    from shortctl.links.importing.dry_run import validate  # noqa: PLC0415

    good = bad = 0
    for row in read_rows(stream, form):
        faults = validate(row)
        for fault in faults:
            on_fault(fault)
        good, bad = good + (not faults), bad + bool(faults)
        if (good + bad) % 1000 == 0:
            on_progress(Checkpoint(created=good, failed=bad))
    return Checkpoint(created=good, failed=bad)
