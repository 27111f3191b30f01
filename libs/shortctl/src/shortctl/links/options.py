"""Options that several commands of links have."""

from pathlib import Path
from typing import Annotated

import typer

from shortcore.links.rows import Format
from shortctl.terminal import fail

Json = Annotated[bool, typer.Option("--json", help="Print the JSON response of the API.")]
Domain = Annotated[str | None, typer.Option(help="Only links of this domain.")]
Tag = Annotated[str | None, typer.Option(help="Only links with this tag.")]
Status = Annotated[
    list[str] | None,
    typer.Option(
        help="Only links with this status: active, disabled, scheduled, expired, exhausted or"
        " deleted; may be repeated."
    ),
]
Text = Annotated[str | None, typer.Option(help="Only links that contain this text.")]
Form = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the file; by default, its extension decides."),
]


def filters(
    domain: str | None, tag: str | None, status: list[str] | None, text: str | None
) -> dict[str, str | list[str]]:
    """Return the query parameters of the API for these filters."""
    named = {"domain": domain, "tag": tag, "status": status, "q": text}
    return {name: value for name, value in named.items() if value}


def file_format(file: str, form: Format | None) -> Format:
    """Return the format of `file`. Ends the command if the extension is unknown."""
    if form is not None:
        return form
    extension = Path(file).suffix.lower()
    if extension in {".jsonl", ".ndjson"}:
        return Format.JSONL
    if extension != ".csv" and file != "-":
        fail(f"{file}: the extension is neither .csv nor .jsonl; set --format.")
    return Format.CSV
