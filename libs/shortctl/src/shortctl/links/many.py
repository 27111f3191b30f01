"""`shortctl links list|import|export`: many links at once."""

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import typer

from shortctl.api.client import (
    Key,
    Refused,
    Url,
    die,
    explain,
    open_api,
    tables,
    tell,
)
from shortctl.api.connection import Connection, NoAnswer
from shortctl.links.exporting import pages
from shortctl.links.importing import (
    IN_FLIGHT,
    Checkpoint,
    CheckpointFile,
    Importer,
    OtherFileError,
)
from shortctl.links.one import Json, show
from shortctl.links.rows import Fault, Format, UnreadableError, read_rows, write_rows

SHOWN_FAULTS = 20
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells count it: 128 and the number of the signal."""

Domain = Annotated[str | None, typer.Option(help="Only of this host.")]
Tag = Annotated[str | None, typer.Option(help="Only with this tag.")]
State = Annotated[str | None, typer.Option(help="Only in this state.")]
Text = Annotated[str | None, typer.Option(help="Only with this text in it.")]
Form = Annotated[Format | None, typer.Option("--format", help="By the file's name if absent.")]


def list_(
    domain: Domain = None,
    tag: Tag = None,
    state: State = None,
    text: Text = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List links, the newest first."""
    from rich.table import Table  # noqa: PLC0415  # costs each start, and few print one

    table = Table("short URL", "target", "status", "title", box=None)
    with open_api(url, key) as server:
        try:
            for link in pages(server, _filters(domain, tag, state, text), limit):
                if json:
                    show(link, json=True)
                else:
                    columns = ("short_url", "target", "status", "title")
                    table.add_row(*(str(link[name] or "") for name in columns))
        except (Refused, NoAnswer) as error:
            explain(error)
    if not json:
        tables().print(table)


def export(
    file: Annotated[str, typer.Argument(help="Where to; - is standard output.")],
    form: Form = None,
    domain: Domain = None,
    tag: Tag = None,
    state: State = None,
    text: Text = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write links as CSV or JSONL; `links import` reads it again.

    Passwords are kept as hashes only, so they are not in it; you are told of such links.
    """
    chosen = _format(file, form)
    locked = 0

    def counted(server: Connection) -> Iterator[dict[str, object]]:
        nonlocal locked
        # Oldest first: what is created meanwhile comes at the end, and is not missed.
        filters = _filters(domain, tag, state, text) | {"sort": "created_at"}
        for link in pages(server, filters, None):
            locked += bool(link.get("has_password"))
            yield link

    with open_api(url, key) as server:
        try:
            with _output(file) as stream:
                count = write_rows(stream, chosen, counted(server))
        except (Refused, NoAnswer) as error:
            explain(error)
        except OSError as error:
            die(str(error))
    tell(f"{count} links exported")
    if locked:
        tell(f"{locked} of them have a password, which is not in the file", "yellow")


def import_(
    file: Annotated[str, typer.Argument(help="What to read; - is standard input.")],
    form: Form = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the rows without sending any.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an import of this file was cut off.")
    ] = False,
    once_more: Annotated[
        bool,
        typer.Option(
            "--once-more", help="Create links also of rows that were imported in the last day."
        ),
    ] = False,
    errors: Annotated[
        Path | None, typer.Option(help="Write what is wrong with each failed row here, as CSV.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create links from CSV (with a header row) or JSONL.

    Rows that fail do not hold up the others; the exit code is 1 if there was any. Running an
    import again creates nothing twice.
    """
    chosen = _format(file, form)
    if resume and (file == "-" or dry_run):
        die("--resume needs a file, and a real run.")
    if resume and once_more:
        die("--resume goes on with the import that was begun; --once-more begins another.")
    salt = os.urandom(8).hex() if once_more else ""
    checkpoints = CheckpointFile(None if file == "-" or dry_run else Path(f"{file}.import"))
    try:
        since = checkpoints.load() if resume else None
    except ValueError as error:
        die(f"{file}.import is no checkpoint: {error}")
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            report = stack.enter_context(_faults(errors, append=since is not None))
        except OSError as error:
            die(str(error))
        moved = stack.enter_context(_progress(stream, known=file != "-"))
        importer = None
        try:
            if dry_run:
                done = _check(stream, chosen, report, moved)
            else:
                servers = [open_api(url, key) for _ in range(IN_FLIGHT)]
                importer = Importer(servers, checkpoints, report, moved)
                with closing(read_rows(stream, chosen)) as rows:
                    importer.run(rows, since, salt=salt)
                done = importer.reached
        except KeyboardInterrupt:
            _cut_off(file, importer)
            raise typer.Exit(INTERRUPTED) from None
        except UnreadableError as error:
            _cut_off(file, importer)
            die(f"{file}: {error}")
        except OtherFileError:
            die(f"{file} has changed since the import was cut off: import it without --resume.")
        except (Refused, NoAnswer) as error:
            _cut_off(file, importer)
            explain(error)
    _conclude(done, "would be created" if dry_run else "created")


def _cut_off(file: str, importer: Importer | None) -> None:
    """Tell how far a real run came, and how to go on."""
    if importer is None:
        return
    done = importer.reached
    tell(f"Cut off after {done.created} links created, {done.failed} rows failed.", "yellow")
    if file != "-":
        tell("What was done is kept: go on with --resume.", "yellow")
    elif not done.salt:
        tell("Send the same rows again: what was created is not created twice.", "yellow")


def _conclude(done: Checkpoint, verb: str) -> None:
    tell(f"{done.created} links {verb}, {done.failed} rows failed")
    if done.again:
        tell(
            f"{done.again} links had been created by an earlier import of these rows;"
            " --once-more would create them again.",
            "yellow",
        )
    if done.failed:
        raise typer.Exit(1)


def _check(
    stream: BinaryIO,
    form: Format,
    report: Callable[[Fault], None],
    moved: Callable[[Checkpoint], None],
) -> Checkpoint:
    # What a link may be takes as long to import as the rest, and only a dry run asks for it.
    from shortctl.links.checking import validate  # noqa: PLC0415  # a real run needs no rules

    good = bad = 0
    for row in read_rows(stream, form):
        faults = validate(row)
        for fault in faults:
            report(fault)
        good, bad = good + (not faults), bad + bool(faults)
        if (good + bad) % 1000 == 0:
            moved(Checkpoint(created=good, failed=bad))
    return Checkpoint(created=good, failed=bad)


@contextmanager
def _faults(path: Path | None, *, append: bool) -> Iterator[Callable[[Fault], None]]:
    """Give what reports a fault: to `path`, else the first ones to standard error."""
    if path is None:
        shown = 0

        def show_fault(fault: Fault) -> None:
            nonlocal shown
            shown += 1
            if shown <= SHOWN_FAULTS:
                place = f"line {fault.line}" + (f", {fault.field}" if fault.field else "")
                tell(f"{place}: {fault.detail} ({fault.rule})")
            elif shown == SHOWN_FAULTS + 1:
                tell("More rows failed; --errors FILE names them all.")

        yield show_fault
        return
    with path.open("a" if append else "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            table.writerow(("line", "field", "rule", "detail"))

        def write(fault: Fault) -> None:
            table.writerow((fault.line, fault.field, fault.rule, fault.detail))

        yield write


@contextmanager
def _progress(stream: BinaryIO, *, known: bool) -> Iterator[Callable[[Checkpoint], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import (  # noqa: PLC0415  # costs each start, and scripts have no use for it
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"))
    with Progress(*columns, TimeRemainingColumn(), console=tables(err=True), transient=True) as bar:
        size = os.fstat(stream.fileno()).st_size if known else None
        task = bar.add_task("", total=size, rows=0)

        def moved(done: Checkpoint) -> None:
            rows = done.created + done.again + done.failed
            bar.update(task, rows=rows, completed=stream.tell() if known else 0)

        yield moved


@contextmanager
def _output(file: str) -> Iterator[TextIO]:
    """Give the file to write: it appears under its name when it is whole."""
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


def _format(file: str, form: Format | None) -> Format:
    if form is not None:
        return form
    suffix = Path(file).suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        return Format.JSONL
    if suffix != ".csv" and file != "-":
        die(f"{file}: is it CSV or JSONL? Say it with --format.")
    return Format.CSV


def _filters(
    domain: str | None, tag: str | None, state: str | None, text: str | None
) -> dict[str, str]:
    named = {"domain": domain, "tag": tag, "state": state, "q": text}
    return {name: value for name, value in named.items() if value is not None}
