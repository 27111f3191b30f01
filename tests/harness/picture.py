"""Draws docs/terminal.svg, the picture of the README: commands and what a running stack answers.

`make picture` starts a new stack, runs COMMANDS and writes the picture. A test of tests/test_docs.py
runs them again and compares the picture with the result, except for what differs between runs.
"""

import html
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from shortctl.embedded.ports import free_port, ports_in_use

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH = 96
READY_WITHIN_S = 180
COMMANDS = (
    "shortctl links create https://example.com/a/long/page --code spring",
    "curl -i http://localhost:8001/spring",
    "shortctl links import tests/data/links.csv",
    "shortctl doctor",
)
"""Run on the stack, after `make run`. Their ports are those of `make run`."""
DEFAULT_BASE = 8000
STACK_PORTS = 8

VARIES = (
    (re.compile(r"sl_\S+…"), "KEY"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT"), "DATE"),
    (re.compile(r"[+-]?\d+(\.\d+)?(?= (ms|s)\b)"), "N"),
    (re.compile(r"\d+(?= changes? in the outbox)"), "N"),
    (re.compile(r"(?<=change feed at )\d+-\d+"), "ID"),
    (re.compile(r"(?<=schema) +revision \d+"), "REVISION"),
    (re.compile(r"(?<=: version )[\d.]+"), "VERSION"),
    # The name of a worker begins with the name of the machine, whose length decides where lines break.
    (re.compile(r"(?<=;)\s+\S+/[0-9a-f]{12}\s+reads\s+streams[\d,\s]+\n"), " READERS\n"),
    (re.compile(r" +"), " "),
)
"""What differs between two runs, and what stands for it in a comparison."""


def record() -> str:
    """Return the commands and what they print on a stack of their own."""
    with _stack() as (folder, base, banner):
        lines = ["$ make run", *banner]
        for command in COMMANDS:
            lines += ["", f"$ {command}", *_output(folder, command, base)]
    return "\n".join(lines) + "\n"


def stable(text: str) -> list[str]:
    """Return the lines of `text` without what differs between two runs."""
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def draw(text: str) -> str:
    """Return `text` as a terminal in SVG; commands are bold."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    for line in text.splitlines():
        console.print(Text(line, style="bold green" if line.startswith("$ ") else ""))
    return console.export_svg(title="Shortlinks", unique_id="shortlinks")


def read(svg: str) -> str:
    """Return the text of a picture that `draw` made."""
    rows: dict[float, list[tuple[float, str]]] = {}
    cell = r'<text class="shortlinks-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>'
    for x, y, text in re.findall(cell, svg):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    return "\n".join("".join(text for _, text in sorted(rows[y])).rstrip() for y in sorted(rows))


@contextmanager
def _stack() -> Iterator[tuple[Path, int, list[str]]]:
    """Start what `make run` starts; yields its folder, its first port and what it printed."""
    base = free_port()
    while ports_in_use(range(base, base + STACK_PORTS)):
        base = free_port()
    with tempfile.TemporaryDirectory(prefix="shortlinks-picture-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user than root
        (folder / "tests").symlink_to(ROOT / "tests")
        log = folder / "output"
        with log.open("w") as output:
            process = subprocess.Popen(
                [_tool("shortctl"), "dev", "--port-base", str(base)],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while "Ctrl-C" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the stack did not start:\n{log.read_text()}")
                time.sleep(0.05)
            told = log.read_text().partition("\nCreate a link:")[0]
            # Nobody copies a key from a picture; its first characters show what it looks like.
            told = re.sub(r"\b(sl_\w{8})\S*", r"\1…", told)
            told = told.replace(f"{folder}/", "")
            yield folder, base, _as_by_default(told, base).strip().splitlines()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(READY_WITHIN_S)


def _output(folder: Path, command: str, base: int) -> list[str]:
    program, *arguments = command.replace(":8001", f":{base + 1}").split()
    if program == "curl":
        arguments.insert(0, "--silent")
    done = subprocess.run(
        [_tool(program), *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": str(WIDTH), "no_proxy": "*"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stdout}")
    return [line.rstrip() for line in _as_by_default(done.stdout, base).strip().splitlines()]


def _as_by_default(text: str, base: int) -> str:
    """Return `text` with the ports that a stack gets unless they are taken."""
    for offset in range(STACK_PORTS):
        text = text.replace(f":{base + offset}", f":{DEFAULT_BASE + offset}")
    return text


def _tool(name: str) -> str:
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name


if __name__ == "__main__":
    PICTURE.write_text(draw(record()))
