"""Plain items skip full validation and give the same drafts and rows."""

import asyncio
import json
import random
import time

import pytest

from shortcore.errors import InvalidInput, MalformedRequest
from shortcore.links.rows import Format
from writer.links.imports import MAX_ROWS

BATCH = "/api/v1/links:batch"
PLAIN = {"target": "https://example.com/a?b=c"}
RICH = {
    "target": "HTTPS://Example.com",
    "code": "rich",
    "redirect_status": 308,
    "enabled": False,
    "valid_from": "2040-01-01T00:00:00Z",
    "expires_at": "2041-01-01T00:00:00Z",
    "expired_target": "https://example.com/over",
    "max_visits": 7,
    "password": "secret",
    "forward_query": True,
    "forward_path": True,
    "title": "",
    "tags": ["a", "b"],
    "note": "n",
}


@pytest.mark.parametrize("item", [PLAIN, PLAIN | {"code": "mine"}, PLAIN | {"code": "A_-9"}])
async def test_a_plain_item_gives_the_same_draft_with_and_without_full_validation(api, item):
    draft = api.container.drafter.plain(item, "/items/3")
    assert draft is not None
    assert draft == await api.container.drafter.draft_item(item, "/items/3")


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        {},
        "target",
        {"target": None},
        {"target": 5},
        {"target": "https://example.com"},  # its normal form has a slash
        {"target": "https://go.test/a"},  # a loop
        {"target": "https://example.com/" + "a" * 8200},
        {"target": "https://example.com/\ud800"},
        {"code": "mine"},
        PLAIN | {"code": None},
        PLAIN | {"code": ""},
        PLAIN | {"code": "a b"},
        PLAIN | {"code": "API"},  # reserved
        PLAIN | {"code": 5},
        PLAIN | {"such": 1},
        PLAIN | {"title": "t"},
        PLAIN | {"code": "mine", "find_if_exists": True},
        RICH,
    ],
)
async def test_an_item_that_is_not_plain_is_validated_in_full(api, item):
    assert api.container.drafter.plain(item) is None


async def test_a_target_on_a_known_domain_is_not_plain(api):
    item = {"target": "https://two.test/a"}
    assert api.container.drafter.plain(item) is not None
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    assert api.container.drafter.plain(item) is None
    with pytest.raises(InvalidInput):
        await api.container.drafter.draft_item(item, "")


@pytest.mark.parametrize("rich", [[], [RICH]])
async def test_the_response_to_a_large_batch_equals_what_is_stored(api, rich):
    items = [*[PLAIN] * 60, *rich, *[PLAIN | {"code": f"c{n}"} for n in range(60)]]
    answer = await api.client.post(BATCH, json={"items": items})
    links = [each["link"] for each in answer.json()["items"]]
    assert len({link["version"] for link in links}) == len(items)
    for link in links:
        assert (await api.client.get(link["self"])).json() == link
    if rich:
        asked = {name: value for name, value in RICH.items() if name != "password"}
        asked["target"] = "https://example.com/"
        assert {name: links[60][name] for name in asked} == asked
        assert links[60]["has_password"]
    custom = await api.fetch("SELECT array_agg(code ORDER BY code) FROM links WHERE custom")
    assert set(custom) == {each["code"] for each in items if "code" in each}
    waiting = await api.fetch(
        "SELECT count(*) FROM outbox o JOIN links l USING (domain_id, code, version)"
    )
    assert waiting == len(custom)
    assert await api.fetch("SELECT links FROM outbox_many") == len(items) - len(custom)


LINES = [
    *[json.dumps(PLAIN).encode()] * 6,
    *[
        json.dumps(PLAIN | {"code": code}).encode()
        for code in ("a", "b", "API", "a b", "", None, 5)
    ],
    b'{"target": "https://example.com"}',
    b'{"target": "https://go.test/a"}',
    b' {"target" : "https://example.com/\\u0041"} ',
    b'{"target": "https://example.com/", "target": "https://example.com/twice"}',
    b'{"target": 5, "target": "https://example.com/last"}',
    b'{"target": "https://example.com/\\ud800"}',
    b'{"target": "https://example.com/\xff"}',
    '{"target": "https://example.com/\u2028é"}'.encode(),
    b'{"target": "https://example.com/\x00"}',
    b'{"target": "https://example.com/"}\r',
    b'\xef\xbb\xbf{"target": "https://example.com/"}',
    b'{"target": "https://example.com/"} {"target": "https://example.com/"}',
    b'{"target": "https://example.com/", "title": "t"}',
    b'{"target": "https://example.com/", "max_visits": 1e999}',
    b'{"target": NaN}',
    b'{"target": 18446744073709551616}',
    b'{"target": ' + b"[" * 5000,
    b'{"target":',
    b'"https://example.com/"}',
    b"{}",
    b"[]",
    b"null",
    b"",
    b"",
    b" \t",
    "\u00a0".encode(),
]


def is_plain(drafter, line):
    try:
        return drafter.plain(json.loads(line)) is not None
    except (ValueError, RecursionError):
        return False


async def outcome(container, body):
    """Return the result of reading a body, for a comparison."""
    try:
        read = await container.imports._read(body, Format.JSONL)
    except MalformedRequest as error:
        return str(error)
    failed = [(line, type(error), error.detail, error.fields) for line, error in read.failed]
    return read.drafts, read.lines, failed, read.rows


async def test_rows_give_the_same_drafts_and_errors_with_and_without_full_validation(
    api, monkeypatch, pytestconfig
):
    choose = random.Random(pytestconfig.getoption("hypothesis_seed"))
    drafter = api.container.drafter
    plain = 0
    for size in (0, 1, 1, 1, 2, 2, 3, 4, 6) * 60:
        lines = choose.choices(LINES, weights=[4] * 10 + [1] * (len(LINES) - 10), k=size)
        body = b"\n".join(lines) + choose.choice([b"", b"\n", b"\n\n"])
        short = await outcome(api.container, body)
        plain += all(is_plain(drafter, line) for line in lines)
        with monkeypatch.context() as long_way:
            long_way.setattr(drafter, "plain", lambda *_: None)
            assert short == await outcome(api.container, body), body
    assert 100 < plain < 500


@pytest.mark.parametrize("body", [b"x", b"", b"\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("rows", [MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1])
async def test_the_limit_of_rows_is_the_same_with_and_without_full_validation(
    api, monkeypatch, body, rows
):
    body = json.dumps(PLAIN).encode() + (b"\n" + json.dumps(PLAIN).encode()) * (rows - 1) + body
    found = []
    for _ in range(2):
        try:
            found.append(await outcome(api.container, body))
        except InvalidInput as error:
            found.append(error.fields)
        monkeypatch.setattr(api.container.drafter, "plain", lambda *_: None)
    assert found[0] == found[1]


@pytest.mark.parametrize("last", [b"", b"{}"])
async def test_other_tasks_run_while_a_full_import_is_read(api, last):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    body = b"".join(json.dumps(PLAIN).encode() + b"\n" for _ in range(MAX_ROWS - 1)) + last
    began = time.thread_time()
    await api.container.imports._read(body, Format.JSONL)
    took = time.thread_time() - began
    task.cancel()
    assert turns >= took / 0.05
