"""Take away any one file of the chart, and some rendered case is another: none is untested."""

import shutil
from pathlib import Path

import pytest
from chart.rendering import CASES, CHART, GOLDEN, Refused, golden, manifests, template

TEMPLATES = sorted(
    path.relative_to(CHART)
    for folder in ("templates", "files")
    for path in (CHART / folder).rglob("*")
    # The notes are rendered at an install only; test_rendering.py reads them.
    if path.is_file() and path.name != "NOTES.txt"
)

# The cases that use the most come first: they find a missing file at once.
ORDER = sorted(CASES, key=lambda case: case.stem not in {"everything", "bundled-replica"})


@pytest.mark.parametrize("missing", TEMPLATES, ids=str)
def test_a_missing_file_is_noticed(newest_helm: str, tmp_path: Path, missing: Path) -> None:
    copy = tmp_path / CHART.name
    shutil.copytree(CHART, copy)
    (copy / missing).unlink()
    for case in ORDER:
        try:
            text = golden(manifests(template(newest_helm, case, chart=copy)))
        except Refused:
            return
        if text != (GOLDEN / case.name).read_text():
            return
    pytest.fail(f"every case renders the same without {missing}")
