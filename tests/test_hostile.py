"""A user's mistakes and a server's absence: each a clear error, and nothing half done."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness.proxy import Mode, Proxy
from harness.stack import Stack

from shortctl.dev.services import command

LINKS = "/api/v1/links"
TARGET = "https://example.com/"


@pytest.fixture
def wire(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as wire:
        yield wire


@pytest.fixture
def stack(server_folder: Path, wire: Proxy, redis_url: str) -> Iterator[Stack]:
    with Stack(server_folder, wire.url, redis_url) as stack:
        yield stack


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with stack.api(stack.writer()) as api:
        yield api


def number_of_links(api: httpx.Client) -> int:
    return len(api.get(LINKS, params={"limit": 200}).raise_for_status().json()["items"])


def test_what_the_api_refuses_is_told_in_a_sentence_and_changes_nothing(api: httpx.Client) -> None:
    taken = api.post(LINKS, json={"target": TARGET, "code": "taken"}).json()
    stale = {"If-Match": f'"{taken["version"]}"'}
    newer = api.patch(taken["self"], json={"title": "newer"}).json()
    as_json = {"Content-Type": "application/json"}
    for answer, status, kind, words in (
        (api.post(LINKS, content=b'{"target": ', headers=as_json), 400, "malformed-request",
         "not valid JSON at character"),
        (api.post(LINKS, content=b"\xff\xfe{}", headers=as_json), 400, "malformed-request", "JSON"),
        (api.post(LINKS, json={"target": TARGET + "a" * 100_000}), 422, "invalid-input", "8192"),
        (api.post(LINKS, json={"target": TARGET + "a" * 2**20}), 413, "body-too-large", "131072"),
        (api.post(LINKS, json={"target": TARGET, "note": "n" * 2**23}), 413, "body-too-large",
         "131072"),
        (api.post(LINKS, json={"target": TARGET, "code": "taken"}), 409, "code-taken", "taken"),
        (api.patch(taken["self"], json={"title": "x"}, headers=stale), 412, "version-mismatch",
         str(newer["version"])),
        (api.delete(taken["self"], headers=stale), 412, "version-mismatch", ""),
        (api.get(LINKS, headers={"Authorization": "Bearer sl_wrong"}), 401, "unauthorized", "key"),
    ):  # fmt: skip
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (status, f"urn:shortlinks:problem:{kind}")
        assert words in problem["detail"]
        assert len(answer.content) < 2000, "it repeats what was sent"
    assert api.get(taken["self"]).json() == newer
    assert number_of_links(api) == 1


def test_without_postgresql_a_create_is_a_503_and_no_link(api: httpx.Client, wire: Proxy) -> None:
    assert number_of_links(api) == 0
    wire.set(Mode.REFUSE)
    answer = api.post(LINKS, json={"target": TARGET, "code": "away"})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:shortlinks:problem:database-unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    wire.set(Mode.PASS)
    api.headers["connection"] = "close"
    deadline = 100
    while (again := api.post(LINKS, json={"target": TARGET, "code": "away"})).status_code == 503:
        deadline -= 1
        assert deadline, again.text
    assert again.status_code == 201, again.text
    assert number_of_links(api) == 1


def test_bad_rows_of_an_import_are_named_by_line_and_the_good_ones_are_made(
    stack: Stack, api: httpx.Client, server_folder: Path
) -> None:
    rows = server_folder / "rows.csv"
    rows.write_text(
        "target,code,expires_at\n"
        "https://example.com/1,good,\n"
        "javascript:alert(1),script,\n"
        "https://example.com/2,good,\n"
        "https://example.com/3,has space,\n"
        "https://example.com/4,late,yesterday\n"
        ",none,\n"
        "https://example.com/6,many,,cells\n"
    )
    done = subprocess.run(
        [
            *command("shortctl", "links", "import", str(rows), "--url", str(api.base_url)),
            "--key",
            stack.api_key,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    for line, column in ((3, "target"), (4, "code"), (5, "code"), (6, "expires_at"), (7, "target")):
        assert f"line {line}, {column}: " in said, said
    assert "line 8: 4 cells for 3 columns" in said
    assert "1 links created, 6 rows failed" in said
    items = api.get(LINKS).json()["items"]
    assert [(item["code"], item["target"]) for item in items] == [("good", "https://example.com/1")]


def test_an_atomic_batch_with_one_bad_item_makes_none_and_points_at_it(api: httpx.Client) -> None:
    items = [{"target": f"{TARGET}{n}"} for n in range(50)] + [{"target": "nowhere"}]
    answer = api.post(f"{LINKS}:batch", content=json.dumps({"items": items, "atomic": True}),
                      headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/items/50/target"]
    assert number_of_links(api) == 0
