"""A bar chart in SVG, light and dark, without any library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, RIGHT = 860, 270, 90
ROW, HEAD, FOOT = 24, 44, 34
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:15px}"
    ".f{font-size:11px;fill:#59636e}.o{fill:#0969da}.r{fill:#afb8c1}.w{stroke:#59636e}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.o{fill:#4493f8}"
    ".r{fill:#656c76}.w{stroke:#9198a1}}"
)


@dataclass(frozen=True)
class Bar:
    """One bar: its median, the range over the rounds as a whisker; `ours` or a reference."""

    name: str
    value: float
    least: float
    most: float
    ours: bool


def chart(groups: Mapping[str, Sequence[Bar]], foot: str) -> str:
    """Return the SVG: a block of horizontal bars for each group, each with a scale of its own."""
    parts: list[str] = []
    top = 0
    for title, bars in groups.items():
        scale = (WIDTH - LABELS - RIGHT) / max(bar.most for bar in bars)
        parts.append(f'<text class="t" x="12" y="{top + 28}">{escape(title)}</text>')
        top += HEAD
        for bar in bars:
            parts.append(_bar(bar, top, scale))
            top += ROW
    parts.append(f'<text class="f" x="12" y="{top + 22}">{escape(foot)}</text>')
    height = top + FOOT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img"><title>Benchmark</title>'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _bar(bar: Bar, top: int, scale: float) -> str:
    middle = top + ROW / 2
    kind = "o" if bar.ours else "r"
    low, high = (LABELS + value * scale for value in (bar.least, bar.most))
    return (
        f'<text x="{LABELS - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{kind}" x="{LABELS}" y="{top + 4}" width="{bar.value * scale:.1f}" '
        f'height="{ROW - 8}" rx="2"/>'
        f'<line class="w" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.0f}" y2="{middle:.0f}"/>'
        f'<text x="{high + 6:.0f}" y="{middle + 4:.0f}">{bar.value:,.0f}</text>'
    )
