"""`shortctl links list|import|export`: many links at once."""

import asyncio
import csv
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import httpx
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from shortctl.client import Key, Refused, Url, api, die, err, explain, open_api, options, out
from shortctl.links.exporting import pages
from shortctl.links.importing import (
    Checkpoint,
    CheckpointFile,
    Importer,
    OtherFileError,
    validate,
)
from shortctl.links.one import Json, show
from shortctl.links.rows import Fault, Format, UnreadableError, read_rows, write_rows

SHOWN_FAULTS = 20

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
    table = Table("short URL", "target", "status", "title", box=None)
    with open_api(url, key) as client:
        try:
            for link in pages(client, _filters(domain, tag, state, text), limit):
                if json:
                    show(link, json=True)
                else:
                    columns = ("short_url", "target", "status", "title")
                    table.add_row(*(str(link[name] or "") for name in columns))
        except (Refused, httpx.TransportError) as error:
            explain(error)
    if not json:
        out.print(table)


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

    def counted(client: httpx.Client) -> Iterator[dict[str, object]]:
        nonlocal locked
        # Oldest first: what is created meanwhile comes at the end, and is not missed.
        filters = _filters(domain, tag, state, text) | {"sort": "created_at"}
        for link in pages(client, filters, None):
            locked += bool(link.get("has_password"))
            yield link

    with open_api(url, key) as client:
        try:
            with _output(file) as stream:
                count = write_rows(stream, chosen, counted(client))
        except (Refused, httpx.TransportError) as error:
            explain(error)
        except OSError as error:
            die(str(error))
    err.print(f"{count} links exported")
    if locked:
        err.print(f"{locked} of them have a password, which is not in the file", style="yellow")


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
    salt = secrets.token_hex(8) if once_more else ""
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
        try:
            if dry_run:
                done = _check(stream, chosen, report, moved)
            else:
                place = api(url, key)
                done = asyncio.run(
                    _import(stream, chosen, place, checkpoints, since, salt, report, moved)
                )
        except UnreadableError as error:
            _keep_going(file, dry_run=dry_run)
            die(f"{file}: {error}")
        except OtherFileError:
            die(f"{file} has changed since the import was cut off: import it without --resume.")
        except (Refused, httpx.TransportError) as error:
            _keep_going(file, dry_run=dry_run)
            explain(error)
    _conclude(done, "would be created" if dry_run else "created")


def _keep_going(file: str, *, dry_run: bool) -> None:
    if file != "-" and not dry_run:
        err.print("Cut off; what was done is kept: go on with --resume.", style="yellow")


def _conclude(done: Checkpoint, verb: str) -> None:
    err.print(f"{done.created} links {verb}, {done.failed} rows failed")
    if done.again:
        err.print(
            f"{done.again} links had been created by an earlier import of these rows;"
            " --once-more would create them again.",
            style="yellow",
        )
    if done.failed:
        raise typer.Exit(1)


async def _import(
    stream: BinaryIO,
    form: Format,
    place: tuple[str, dict[str, str]],
    checkpoints: CheckpointFile,
    since: Checkpoint | None,
    salt: str,
    report: Callable[[Fault], None],
    moved: Callable[[Checkpoint], None],
) -> Checkpoint:
    base, headers = place
    async with httpx.AsyncClient(**options(base, headers)) as client:
        importer = Importer(client, checkpoints, report, moved)
        with closing(read_rows(stream, form)) as rows:
            await importer.run(rows, since, salt=salt)
        return importer.reached


def _check(
    stream: BinaryIO,
    form: Format,
    report: Callable[[Fault], None],
    moved: Callable[[Checkpoint], None],
) -> Checkpoint:
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

        def tell(fault: Fault) -> None:
            nonlocal shown
            shown += 1
            if shown <= SHOWN_FAULTS:
                place = f"line {fault.line}" + (f", {fault.field}" if fault.field else "")
                err.print(f"{place}: {fault.detail} ({fault.rule})", markup=False)
            elif shown == SHOWN_FAULTS + 1:
                err.print("More rows failed; --errors FILE names them all.")

        yield tell
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
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
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
