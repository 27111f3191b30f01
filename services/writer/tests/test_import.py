"""Imports: CSV and JSONL, failed rows, idempotency, the outbox, and published records."""

import asyncio
import json

import pytest

from shortcore.links.record import link_key
from shortcore.links.rows import Format
from writer.links import imports, repository
from writer.links.imports import MAX_ROWS
from writer.links.schemas import BatchLinks
from writer.relay.outbox import BULK

IMPORT = "/api/v1/links:import"
CSV = {"content-type": "text/csv; charset=utf-8"}
JSONL = {"content-type": "application/jsonl"}
SINGLE = f"SELECT count(*) FROM outbox WHERE code <> '' AND id < {BULK}"


def csv_of(count: int, start: int = 0) -> str:
    rows = "".join(f"https://example.com/{n},c{n}\n" for n in range(start, start + count))
    return f"target,code\n{rows}"


async def test_an_import_creates_valid_rows_and_lists_the_lines_of_the_others(api):
    await api.create(code="mine")
    body = (
        "target,code,redirect_status,tags,expires_at\n"
        'https://example.com/1,a,301,"x,y",2090-01-01T00:00:00.5Z\n'
        "nowhere,,,,\n"
        "https://example.com/2,mine,,,\n"
        '"https://example.com/3?\n4",b,,,\n'
        "https://example.com/5,a,,,\n"
        "https://example.com/6,,many,,\n"
        "https://example.com/7,,,,\n"
    )
    answer = await api.client.post(IMPORT, content=body, headers=CSV)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["rows"], told["created"]) == (7, 3)
    found = [
        (each["line"], each["problem"]["status"], each["problem"]["errors"][0]["pointer"])
        for each in told["failed"]
    ]
    assert found == [
        (3, 422, "/target"), (4, 409, "/code"), (7, 409, "/code"), (8, 422, "/redirect_status"),
    ]  # fmt: skip
    link = (await api.client.get("/api/v1/links/go.test/a")).json()
    assert (link["redirect_status"], link["tags"]) == (301, ["x", "y"])
    assert link["expires_at"] == "2090-01-01T00:00:00.500000Z"
    assert link["created_at"] == link["updated_at"]


async def test_jsonl_is_read_line_by_line(api):
    lines = [{"target": "https://example.com/", "title": "é"}, {"target": 5}, {"such": "field"}]
    body = "\n".join([*map(json.dumps, lines), "", "{", "[]"])
    told = (await api.client.post(IMPORT, content=body, headers=JSONL)).json()
    assert (told["rows"], told["created"]) == (5, 1)
    assert [(each["line"], each["problem"]["errors"][0]["pointer"]) for each in told["failed"]] == [
        (2, "/target"),
        (3, "/target"),
        (5, ""),
        (6, ""),
    ]


@pytest.mark.parametrize("count", [99, 100, 4500])
async def test_every_row_gets_a_link_and_a_version_and_every_custom_code_an_outbox_row(api, count):
    told = (await api.client.post(IMPORT, content=csv_of(count), headers=CSV)).json()
    assert told == {"rows": count, "created": count, "failed": []}
    assert await api.fetch("SELECT count(DISTINCT (code, version)) FROM links") == count
    joined = "SELECT count(*) FROM links JOIN outbox USING (domain_id, code, version)"
    assert await api.fetch(joined) == count
    assert await api.fetch("SELECT count(*) FROM links WHERE custom") == count


@pytest.mark.parametrize(("count", "copies"), [(99, 0), (100, 1), (4500, 3)])
async def test_rows_without_a_code_get_one_outbox_row_per_copy(api, count, copies):
    told = (
        await api.client.post(
            IMPORT, content="target\n" + count * "https://example.com/\n", headers=CSV
        )
    ).json()
    assert told == {"rows": count, "created": count, "failed": []}
    assert await api.fetch("SELECT count(DISTINCT (code, version)) FROM links") == count
    assert await api.fetch("SELECT count(*) FROM outbox_many") == copies
    joined = "SELECT count(*) FROM links JOIN outbox_many ON updated_at = changed_at"
    assert await api.fetch(joined) == await api.fetch(
        "SELECT coalesce(sum(links), 0) FROM outbox_many"
    )
    assert await api.fetch(joined) + await api.fetch(SINGLE) == count


async def test_rows_of_an_import_with_a_taken_code_do_not_delay_an_edit(api):
    await api.create(code="c250")
    before = await api.fetch(SINGLE)
    told = (await api.client.post(IMPORT, content=csv_of(300), headers=CSV)).json()
    assert told["created"] == 299
    assert await api.fetch(SINGLE) == before
    joined = "SELECT count(*) FROM links JOIN outbox USING (domain_id, code, version)"
    assert await api.fetch(joined) == 300


async def test_rows_with_taken_codes_do_not_slow_a_full_import_down(api):
    await api.client.post(IMPORT, content=csv_of(150), headers=CSV)
    told = (await api.client.post(IMPORT, content=csv_of(300, 100), headers=CSV)).json()
    assert (told["rows"], told["created"]) == (300, 250)
    assert [each["line"] for each in told["failed"]] == list(range(2, 52))
    assert {each["problem"]["status"] for each in told["failed"]} == {409}


async def test_a_copied_link_equals_its_response_and_an_inserted_link(api):
    item = {
        "target": "https://example.com/?a\\b", "redirect_status": 308, "enabled": False,
        "valid_from": "2031-01-01T00:00:00.001Z", "expires_at": "2090-01-01T00:00:00.999Z",
        "expired_target": "https://example.com/over", "max_visits": 5, "forward_query": True,
        "forward_path": True, "title": "a\tb\\N\n", "tags": ["x", "é"], "note": "\\.",
    }  # fmt: skip
    batch = {"items": [item] * 100}
    copied = (await api.client.post("/api/v1/links:batch", json=batch)).json()["items"][57]["link"]
    path = f"/api/v1/links/go.test/{copied['code']}"
    assert (await api.client.get(path)).json() == copied
    inserted = await api.create(**item)
    of_its_own = {"code", "short_url", "self", "version", "created_at", "updated_at"}
    for name in copied.keys() - of_its_own:
        assert copied[name] == inserted[name], name


@pytest.mark.parametrize("count", [1, 100])
async def test_the_published_record_of_a_new_link_equals_what_the_relay_reads(api, count):
    item = {"target": "https://example.com/", "expires_at": "2090-01-01T00:00:00.123Z"}
    answer = await api.client.post("/api/v1/links:batch", json={"items": [item] * count})
    code = answer.json()["items"][0]["link"]["code"]
    async with api.container.postgres.connection() as connection:
        stored = await repository.find_link(connection, "go.test", code)
    assert stored is not None
    assert await api.container.cache.get(link_key("go.test", code)) == stored.record


async def test_a_repeated_import_gets_the_first_response_and_creates_nothing(api):
    headers = CSV | {"idempotency-key": "k"}
    body = "target\nhttps://example.com/\nx\n"
    first = await api.client.post(IMPORT, content=body, headers=headers)
    again = await api.client.post(IMPORT, content=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert await api.fetch("SELECT count(*) FROM links") == 1
    other = await api.client.post(IMPORT, content=body + "y\n", headers=headers)
    assert other.json()["type"].endswith("idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("code\nx\n", 400),
        ("target,target\n", 400),
        ("target\n\xff", 400),
        ("target\n" + "x\n" * (MAX_ROWS + 1), 422),
        ("target,password\n" + "https://example.com/,p\n" * 101, 422),
    ],
)
async def test_an_unreadable_file_is_rejected_as_a_whole(api, body, status):
    answer = await api.client.post(IMPORT, content=body.encode("latin-1"), headers=CSV)
    assert answer.status_code == status, answer.text
    assert await api.fetch("SELECT count(*) FROM links") == 0


async def test_an_import_without_a_media_type_is_rejected(api):
    answer = await api.client.post(IMPORT, content="target\n")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (
        415,
        "unsupported-media-type",
    )


async def test_imports_of_the_same_codes_in_opposite_order_do_not_deadlock(api, monkeypatch):
    monkeypatch.setattr(imports, "_COPY_ROWS", 100)
    head, *rows = csv_of(1000).splitlines()
    bodies = ["\n".join([head, *order]) for order in (rows, rows[::-1])]
    answers = await asyncio.gather(
        *(api.client.post(IMPORT, content=body, headers=CSV) for body in bodies)
    )
    told = [answer.json() for answer in answers]
    assert sorted(each["created"] for each in told) == [0, 1000], told
    assert sum(len(each["failed"]) for each in told) == 1000


async def test_an_error_keeps_no_reference_to_its_request(api):
    """An exception whose traceback refers to its own list is a cycle, and the GC runs rarely."""
    container = api.container
    body = b"target,code\nnot a url,\nhttps://a.example/,one\nhttps://a.example/,one\n"
    read = await container.imports._read(body, Format.CSV)
    prepared = await container.batches._check(BatchLinks(items=[{"target": "not a url"}]))
    errors = [error for _, error in read.failed] + prepared
    assert len(errors) == 3
    assert [error.__traceback__ for error in errors] == [None] * 3
