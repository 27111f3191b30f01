"""Reads rows of links from CSV and JSONL, one at a time, so that a file may be of any length.

CSV has a header row with the API's field names. An empty cell is an absent field, and tags are joined
with commas. JSONL has one object of the API per line.
"""

import contextlib
import csv
import enum
import io
from collections.abc import Generator, Iterator, Mapping
from typing import BinaryIO, TextIO

import msgspec

from shortcore.links.json_size import has_more_values

FIELDS = (
    "target", "code", "domain", "redirect_status", "enabled", "valid_from", "expires_at",
    "expired_target", "max_visits", "forward_query", "forward_path", "title", "tags", "note",
)  # fmt: skip
"""The fields of an export: all that an import can set."""

READ_ONLY_FIELDS = frozenset({
    "short_url", "status", "visits", "clicks", "has_password", "version", "created_at",
    "updated_at", "deleted_at", "self",
})  # fmt: skip
"""Fields that only responses of the API have; an import ignores them."""

READABLE = frozenset(FIELDS) | {"password", "find_if_exists"} | READ_ONLY_FIELDS
"""The columns that an import accepts."""

MAX_ROW = 256 * 1024
"""Maximum number of characters of one row, so that no row fills the memory."""

MAX_ROW_LINES = 16_384
"""Maximum number of lines of one CSV row. Quoted cells may contain line breaks, and a row is read at once."""

MAX_ROW_VALUES = 256
"""Maximum number of JSON values of one row."""

_NAMED = 5  # unknown columns that an error names

_NUMBERS = frozenset({"redirect_status", "max_visits"})
_FLAGS = frozenset({"enabled", "forward_query", "forward_path", "find_if_exists"})
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Format(enum.StrEnum):
    """The format of a file of rows."""

    CSV = "csv"
    JSONL = "jsonl"


class UnreadableError(Exception):
    """The file as a whole cannot be read; the text says where and why."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """An error in a row: the line (from 1), the field, the broken rule, and a sentence."""

    line: int
    field: str
    rule: str
    detail: str


class Row(msgspec.Struct, frozen=True):
    """One row: the fields to send to the API, or its errors."""

    line: int
    item: Mapping[str, object]
    faults: tuple[Fault, ...] = ()


def read_rows(file: BinaryIO, form: Format) -> Generator[Row, None, None]:
    """Yield the rows of `file`; raises UnreadableError if the file is not of this format.

    Close the generator before the file if it is not read to its end.
    """
    with contextlib.closing(read_lines(file, form)) as lines:
        for row in lines:
            if row is not None:
                yield row


def read_lines(file: BinaryIO, form: Format) -> Generator[Row | None, None, None]:
    """Yield the rows of `file` as `read_rows` does, and None for each blank line.

    So the time to the next value is bounded, even in a file of blank lines.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="" if form is Format.CSV else "\n")
    reader = _read_csv(text) if form is Format.CSV else _read_jsonl(text)
    line = 0
    try:
        for row in reader:
            line = line + 1 if row is None else row.line
            yield row
    except UnicodeDecodeError as error:
        raise UnreadableError(f"after line {line}: the file is not UTF-8: {error}") from error
    finally:
        text.detach()  # the caller closes the file


def _read_csv(text: TextIO) -> Iterator[Row | None]:
    csv.field_size_limit(MAX_ROW)
    rows = _cells(text)
    _, names = next(rows, (1, []))
    header = [name.strip() for name in names]
    if unknown := sorted(set(header) - READABLE):
        named = ", ".join(name[:64] for name in unknown[:_NAMED])
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise UnreadableError(
            f"line 1: unknown column: {named}{more}. Known columns: {', '.join(FIELDS)}"
        )
    if "target" not in header:
        raise UnreadableError("line 1: the header row must name the columns, `target` among them")
    if len(set(header)) < len(header):
        raise UnreadableError("line 1: a column is named twice")
    for line, cells in rows:
        if not cells:
            yield None
            continue
        if len(cells) > len(header):
            fault = Fault(
                line, "", "columns", f"{len(cells)} cells for {len(header)} columns: quote commas."
            )
            yield Row(line, {}, (fault,))
            continue
        yield _convert(line, dict(zip(header, cells, strict=False)))


def _cells(text: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row; a quoted cell may contain line breaks."""
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UnreadableError(f"line {line}: {error}") from error
        yield line, cells


def _convert(line: int, cells: Mapping[str, str]) -> Row:
    item: dict[str, object] = {}
    faults = []
    for name, cell in cells.items():
        if not cell or name in READ_ONLY_FIELDS:
            continue
        if name in _NUMBERS:
            if cell.strip().isascii() and cell.strip().isdecimal() and len(cell) < 20:  # noqa: PLR2004  # digits of a 64-bit number
                item[name] = int(cell)
            else:
                faults.append(Fault(line, name, "type", f"{cell[:40]!r} is not a whole number."))
        elif name in _FLAGS:
            flag = _BOOLEANS.get(cell.strip().lower())
            if flag is None:
                faults.append(Fault(line, name, "type", f"{cell[:40]!r} is not true or false."))
            else:
                item[name] = flag
        elif name == "tags":
            item[name] = [tag.strip() for tag in cell.split(",") if tag.strip()]
        else:
            item[name] = cell
    return Row(line, item, tuple(faults))


def _read_jsonl(text: TextIO) -> Iterator[Row | None]:
    lines = _Lines(text)
    for line, raw in enumerate(lines, 1):
        lines.begin_row()
        if not raw.strip():
            yield None
            continue
        encoded = raw.encode()
        if has_more_values(encoded, MAX_ROW_VALUES):
            detail = f"The line holds more than {MAX_ROW_VALUES} JSON values."
            yield Row(line, {}, (Fault(line, "", "length", detail),))
            continue
        try:
            item = msgspec.json.decode(encoded)
        except (msgspec.DecodeError, RecursionError) as error:
            yield Row(line, {}, (Fault(line, "", "json", f"The line is not valid JSON: {error}."),))
            continue
        if not isinstance(item, dict):
            yield Row(line, {}, (Fault(line, "", "type", "The line is not a JSON object."),))
            continue
        yield Row(line, item)


class _Lines:
    """The lines of a text; raises UnreadableError for a row with too many lines or characters."""

    def __init__(self, text: TextIO) -> None:
        self._read = text.readline
        self._number = 0
        self._row = 1
        self._characters = 0

    def begin_row(self) -> None:
        """Begin to count the lines and characters of the next row."""
        self._row = self._number + 1
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._read(MAX_ROW + 1)
        if not raw:
            raise StopIteration
        self._number += 1
        self._characters += len(raw)
        if self._characters > MAX_ROW:
            raise UnreadableError(f"line {self._row}: the row has more than {MAX_ROW} characters")
        if self._number - self._row >= MAX_ROW_LINES:
            raise UnreadableError(f"line {self._row}: the row has more than {MAX_ROW_LINES} lines")
        return raw
