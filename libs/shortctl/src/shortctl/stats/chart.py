"""A chart of columns for the terminal."""

from collections.abc import Sequence

_EIGHTHS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_MAX_COLUMN = 6
HEIGHT = 8


def draw(values: Sequence[int], width: int, height: int = HEIGHT) -> list[str]:
    """Return the lines of a chart of `values`, at most `width` characters wide.

    Each line begins with the value at its top, where that is a new one. Values that do not fit are
    added up in groups of equal size.
    """
    largest = max(map(len, (f"{value:,}" for value in (sum(values), 0))))
    columns = _grouped(values, max(1, width - largest - 1))
    top = max(columns, default=0) or 1
    size = max(1, min(_MAX_COLUMN, (width - largest - 1) // max(1, len(columns))))
    lines = []
    for row in range(height, 0, -1):
        label = f"{top:,}" if row == height else ""
        cells = (_cell(value, top, row, height) for value in columns)
        gap = " " if size > 1 else ""
        bars = "".join(cell * (size - len(gap)) + gap for cell in cells)
        lines.append(f"{label:>{largest}} {bars}".rstrip())
    return lines


def _grouped(values: Sequence[int], most: int) -> list[int]:
    size = -(-len(values) // most) or 1
    return [sum(values[first : first + size]) for first in range(0, len(values), size)]


def _cell(value: int, top: int, row: int, height: int) -> str:
    eighths = -(-value * height * 8 // top) - (row - 1) * 8
    return _EIGHTHS[max(0, min(8, eighths))]
