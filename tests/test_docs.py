"""The pages link only to what exists and show what the product does; the records have one form."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from harness import picture

from writer.links.schemas import LinkView

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in ("argocd", "bench", "charts", "docker", "docs", "libs", "services", "tests")
    for page in (ROOT / folder).rglob("*.md")
) + sorted(ROOT.glob("*.md"))
SITE = "https://github.com/shortlinks/shortlinks/blob/main/"
TEXT = (".md", ".py", ".yaml", ".yml", ".in", ".tpl", ".txt", ".toml", ".conf", ".sh")
MENTION = re.compile(r"\b(?:docs|bench|argocd)/[\w./-]+\.md\b")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
MODULE = re.compile(r"\[`([a-z_]+(?:\.[a-z_]+)+)`\]\(([^)\s]+\.py)\)")
METRIC = re.compile(r"\bshortlinks_[a-z0-9_]+")
SOURCE = "".join(
    path.read_text("utf-8")
    for folder in ("libs", "services")
    for path in (ROOT / folder).glob("*/src/**/*.py")
)
METRICS = set(METRIC.findall(SOURCE))
LOGGED = re.compile(
    r"""grep [-C0-9 ]*'([a-z][a-z ;]+)'|(?:log says|logs|logged) [*`]([^*`]+)[*`]"""
)
RECORDS = sorted((ROOT / "docs" / "adr").glob("0*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    plain = (LINK.sub(lambda link: link[0].partition("]")[0][1:], text) for text in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


def links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    return [link for link in LINK.findall(text) if not re.match(r"[a-z+]+:", link)]


def mentions(page: Path) -> set[str]:
    """Return the pages that a file names by their path from the root, such as docs/api.md."""
    return set(MENTION.findall(page.read_text("utf-8", "replace").replace(SITE, "")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_every_page_that_a_file_names_exists() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    files = [
        ROOT / name for name in listed.split("\0") if name.endswith(TEXT) or name == "Makefile"
    ]
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        if file.is_file()
        for name in mentions(file)
        if not (ROOT / name).exists() and not (file.parent / name).exists()
    }
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_to_a_module_leads_to_that_module(page: Path) -> None:
    for module, path in MODULE.findall(page.read_text("utf-8")):
        assert path.removesuffix(".py").replace("/", ".").endswith(f"src.{module}"), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    named = set(METRIC.findall(page.read_text("utf-8")))
    # The client library appends these to a counter's or a histogram's name.
    unknown = {
        name
        for name in named
        if not {name, re.sub(r"_(total|bucket|sum|count)$", "", name)} & METRICS
        if not name.endswith("_")  # a family: `shortlinks_password_…`
    }
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z][a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_log_line_that_a_page_looks_for_is_written(page: Path) -> None:
    for sought in LOGGED.findall(page.read_text("utf-8")):
        assert "".join(sought) in SOURCE


@pytest.mark.parametrize("page", RECORDS, ids=lambda page: page.stem)
def test_a_decision_record_has_status_date_context_decision_and_consequences(page: Path) -> None:
    text = page.read_text("utf-8")
    number = int(page.stem[:4])
    head = (
        rf"# {number}\. .+\n\n- Status: (accepted|superseded by .+)\n- Date: \d{{4}}-\d\d-\d\d\n\n"
    )
    assert re.match(head, text)
    assert re.findall(r"^## (.+)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_index_names_every_decision_record_with_its_title_and_status() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.+?)\]\((.+?)\): .+ \| (.+) \|$", index, re.MULTILINE)
    expected = []
    for page in RECORDS:
        text = page.read_text("utf-8")
        title, status = re.findall(r"^(?:# \d+\.|- Status:) (.+)", text, re.MULTILINE)
        expected.append((str(int(page.stem[:4])), title, page.name, status))
    assert rows == expected


@pytest.mark.parametrize("package", ["shortcore", "redirector", "writer"])
def test_the_tour_lists_the_sub_packages_in_the_order_in_which_they_may_import(
    package: str,
) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = (
        contract["layers"]
        for contract in contracts["contracts"]
        if contract["type"] == "layers" and contract["containers"] == [package]
    )
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.partition(f"| sub-package of `{package}` |")[2].partition("\n\n")[0]
    listed = [
        set(re.findall(r"`(\w+)`", row))
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    ]
    # The entry points are no sub-packages.
    assert listed == [names for layer in layers if (names := set(layer.split(" | "))) != {"main"}]


def test_the_glossary_is_in_alphabetical_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\* \*\*(.+?)\*\*: ", text, re.MULTILINE)
    assert terms
    assert terms == sorted(set(terms), key=str.casefold)


@pytest.mark.timeout(300)  # it starts a whole stack, on a machine that may be busy
@pytest.mark.skipif(not shutil.which("curl"), reason="the picture shows curl")
def test_the_picture_shows_what_a_running_stack_answers() -> None:
    drawn = picture.read(picture.PICTURE.read_text("utf-8"))
    assert picture.stable(drawn) == picture.stable(picture.record()), "`make picture` draws it anew"


def test_the_sample_of_the_readme_has_only_fields_of_a_link() -> None:
    (sample,) = re.findall(
        r"^```json\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    shown = json.loads(sample)
    assert shown.pop("…") == "…"
    assert shown.keys() <= set(LinkView.__struct_fields__)
