"""Write the table of values into the chart's README, from the comments in values.yaml.

    python charts/readme.py           write charts/shortlinks/README.md
    python charts/readme.py --check   say whether it is up to date

A comment that begins with `# --` describes the key below it; it may go on over more lines.
`# @schema TYPE` says the type where the default (null) does not.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parent / "shortlinks"
TEMPLATE = CHART / "README.md.in"
README = CHART / "README.md"
MARK = "<!-- values -->"

_KEY = re.compile(r"^( *)([A-Za-z_][\w-]*):")


class Row(NamedTuple):
    """A value, as the table shows it."""

    path: str
    kind: str
    default: str
    text: str


def rows(source: str) -> Iterator[Row]:
    """Yield a row for each described key; raises ValueError for a leaf that nobody describes."""
    values = yaml.safe_load(source)
    path: list[str] = []
    text: list[str] = []
    kind = ""
    done = ""
    for line in source.splitlines():
        comment = line.strip()
        if comment.startswith("# --"):
            text, kind = [comment.removeprefix("# --").strip()], ""
        elif comment.startswith("# @schema"):
            kind = comment.removeprefix("# @schema").strip()
        elif comment.startswith("#"):
            if text:
                text.append(comment.removeprefix("#").strip())
        elif found := _KEY.match(line):
            path = [*path[: len(found[1]) // 2], found[2]]
            name = ".".join(path)
            if done and name.startswith(done):
                continue
            value = _at(values, path)
            if text:
                yield Row(name, kind or _kind(value), _default(value), " ".join(text))
                done = name + "."
            elif not isinstance(value, dict) or not value:
                raise ValueError(f"values.yaml: {name} has no description")
            text, kind = [], ""


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _default(value: Any) -> str:
    return "`" + json.dumps(value, ensure_ascii=False) + "`"


def render() -> str:
    """Return the README's text."""
    lines = ["| value | type | default | what |", "| --- | --- | --- | --- |"]
    for row in rows((CHART / "values.yaml").read_text("utf-8")):
        cells = (f"`{row.path}`", row.kind, row.default, row.text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return TEMPLATE.read_text("utf-8").replace(MARK, "\n".join(lines))


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit status."""
    text = render()
    if arguments != ["--check"]:
        README.write_text(text, "utf-8")
        return 0
    if README.is_file() and README.read_text("utf-8") == text:
        return 0
    print(f"{README} is out of date: run `python charts/readme.py`", file=sys.stderr)  # noqa: T201  # a command line prints
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
