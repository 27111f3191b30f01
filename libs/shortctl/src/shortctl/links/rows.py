"""Writes links as CSV or JSONL, in the form that `shortcore.links.rows` reads."""

import csv
from collections.abc import Iterable, Mapping
from typing import TextIO

import msgspec

from shortcore.links.rows import FIELDS, Format


def write_rows(file: TextIO, form: Format, links: Iterable[Mapping[str, object]]) -> int:
    """Write links, as the API returns them, to `file`; returns their number."""
    count = 0
    table = csv.writer(file, lineterminator="\n")
    if form is Format.CSV:
        table.writerow(FIELDS)
    for link in links:
        count += 1
        if form is Format.CSV:
            table.writerow([_cell(link.get(name)) for name in FIELDS])
        else:
            item = {name: link[name] for name in FIELDS if link.get(name) is not None}
            file.write(msgspec.json.encode(item).decode() + "\n")
    return count


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
