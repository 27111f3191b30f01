"""Shows the logs of the services on the terminal."""

import re
from collections.abc import Mapping
from pathlib import Path

_WARNING = re.compile(r"\[(warning|error|critical)\s*\]|^(Traceback|\S*(Error|Exception)\b)")
_TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d")


class LogFollower:
    """Prints new lines of log files: all lines, or only warnings and errors with their tracebacks."""

    def __init__(self, logs: Mapping[str, Path], *, everything: bool) -> None:
        self._everything = everything
        self._files = {name: path.open("rb") for name, path in logs.items()}
        self._rest = dict.fromkeys(logs, b"")
        self._showing = dict.fromkeys(logs, False)

    def show(self) -> None:
        """Print the lines that were written since the last call."""
        for name, file in self._files.items():
            *lines, self._rest[name] = (self._rest[name] + file.read()).split(b"\n")
            for line in lines:
                self._show_line(name, line.decode(errors="replace"))

    def close(self) -> None:
        """Print the remaining lines and close the files."""
        self.show()
        for file in self._files.values():
            file.close()

    def _show_line(self, name: str, line: str) -> None:
        # The lines of a traceback follow a log line and have no timestamp.
        warning = _WARNING.search(line) is not None
        if warning or _TIMESTAMP.match(line):
            self._showing[name] = warning
        if self._everything or self._showing[name]:
            print(f"{name:>10} | {line}", flush=True)
