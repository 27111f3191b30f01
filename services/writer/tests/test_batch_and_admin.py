"""Batches, domains and keys."""

import asyncio
import base64

import pytest

BATCH = "/api/v1/links:batch"
OK = {"target": "https://example.com/"}


async def test_each_item_of_a_batch_has_its_own_result_in_order(api):
    await api.create(code="mine")
    items = [OK, {"target": "x"}, OK | {"code": "mine"}, OK | {"code": "a"}, OK | {"code": "a"}, 5]
    answer = await api.client.post(BATCH, json={"items": items})
    assert answer.status_code == 200
    results = answer.json()["items"]
    assert [each["status"] for each in results] == [201, 422, 409, 201, 409, 422]
    pointers = [each["problem"]["errors"][0]["pointer"] for each in results if "problem" in each]
    assert pointers == ["/items/1/target", "/items/2/code", "/items/4/code", "/items/5"]
    assert results[3]["link"] == (await api.client.get("/api/v1/links/go.test/a")).json()
    assert await api.fetch("SELECT count(*) FROM links") == 3
    assert await api.fetch("SELECT count(*) FROM outbox WHERE code <> ''") == 3


@pytest.mark.parametrize(
    ("bad", "status", "pointer"),
    [
        ({"target": "x"}, 422, "/items/3/target"),
        (OK | {"code": "mine"}, 409, "/items/3/code"),
        (OK | {"code": "b"}, 409, "/items/3/code"),
        (OK | {"find_if_exists": True}, 422, "/items/3/find_if_exists"),
    ],
)
async def test_an_atomic_batch_with_an_invalid_item_creates_nothing(api, bad, status, pointer):
    await api.create(code="mine")
    items = [OK, OK | {"code": "b"}, OK, bad]
    answer = await api.client.post(BATCH, json={"items": items, "atomic": True})
    assert answer.status_code == status
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    assert await api.fetch("SELECT count(*) FROM links") == 1
    assert await api.fetch("SELECT count(*) FROM outbox WHERE code <> ''") == 1


async def test_a_batch_of_the_maximum_size_is_accepted_and_a_larger_one_rejected(api):
    answer = await api.client.post(BATCH, json={"items": [OK] * 1000})
    assert {each["status"] for each in answer.json()["items"]} == {201}
    assert len({each["link"]["code"] for each in answer.json()["items"]}) == 1000
    for items in ([OK] * 1001, [], [OK | {"password": "p"}] * 101):
        answer = await api.client.post(BATCH, json={"items": items})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/items"


async def test_a_domain_can_be_added_edited_and_removed_and_each_change_is_in_the_outbox(api):
    new = {"host": "Bücher.Example", "default_target": "https://example.com"}
    added = await api.client.post("/api/v1/domains", json=new)
    assert added.status_code == 201
    domain = added.json()
    assert (domain["host"], domain["default"]) == ("xn--bcher-kva.example", False)
    assert added.headers["location"] == domain["self"]
    again = await api.client.post("/api/v1/domains", json=new)
    assert again.json()["type"] == "urn:shortlinks:problem:domain-taken"
    edited = await api.client.patch(
        domain["self"],
        json={"default_target": None, "not_found_target": "https://example.com/404"},
        headers={"If-Match": added.headers["etag"]},
    )
    assert edited.json()["default_target"] is None
    assert edited.json()["version"] > domain["version"]
    link = await api.create(domain=domain["host"])
    loop = await api.client.post(
        "/api/v1/links", json={"target": f"https://{domain['host']}/{link['code']}"}
    )
    assert loop.json()["errors"][0]["rule"] == "loop"
    used = await api.client.delete(domain["self"])
    assert used.json()["type"] == "urn:shortlinks:problem:domain-in-use"
    await api.client.delete(link["self"])
    await api.client.delete(link["self"], params={"purge": True})
    assert (await api.client.delete(domain["self"])).status_code == 204
    assert (await api.client.get(domain["self"])).status_code == 404
    told = await api.fetch(
        "SELECT count(*) FROM outbox WHERE host = $1 AND code = ''", domain["host"]
    )
    assert told == 3
    default = await api.client.delete("/api/v1/domains/go.test")
    assert default.json()["type"] == "urn:shortlinks:problem:domain-in-use"


async def test_a_domain_removed_by_another_writer_fails_only_the_requests_that_name_it(api):
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    await api.fetch("DELETE FROM domains WHERE host = 'two.test' RETURNING 1")
    bodies = [OK | {"domain": "two.test"}, *[OK] * 9]
    answers = await asyncio.gather(
        *(api.client.post("/api/v1/links", json=body) for body in bodies)
    )
    assert [each.status_code for each in answers] == [422] + [201] * 9
    assert answers[0].json()["errors"][0]["pointer"] == "/domain"


async def test_a_domain_added_by_another_writer_can_be_used_at_once(settings, opened):
    async with opened(settings) as one, opened(settings) as two:
        await asyncio.sleep(0.25)  # what a writer has just read it does not ask for again
        await one.client.post("/api/v1/domains", json={"host": "two.test"})
        assert (await two.create(domain="two.test"))["domain"] == "two.test"


async def test_a_key_is_shown_once_and_works_until_it_is_revoked_or_expires(api):
    made = await api.client.post(
        "/api/v1/keys", json={"name": "n", "expires_at": "2040-01-01T00:00:00Z"}
    )
    key = made.json()
    assert made.status_code == 201
    bearer = {"Authorization": f"Bearer {key['key']}"}

    async def status() -> int:
        return (await api.client.get("/api/v1/links", headers=bearer)).status_code

    assert await status() == 200
    await api.container.authenticator.store_uses()
    listed = (await api.client.get("/api/v1/keys")).json()["items"]
    assert all("key" not in each for each in listed)
    assert listed[1]["last_used_at"] is not None
    stored = await api.fetch("SELECT encode(hash, 'escape') FROM api_keys WHERE id = $1", key["id"])
    assert key["key"] not in stored
    assert (await api.client.delete(key["self"])).status_code == 204
    assert await status() == 401
    other = await api.client.post(
        "/api/v1/keys", json={"name": "m", "expires_at": "2040-01-01T00:00:00Z"}
    )
    bearer = {"Authorization": f"Bearer {other.json()['key']}"}
    assert await status() == 200
    api.clock.advance_to(api.clock.now().replace(year=2040))
    assert await status() == 401


async def test_a_key_revoked_by_another_writer_is_rejected_within_5_seconds(api):
    made = (await api.client.post("/api/v1/keys", json={"name": "n"})).json()
    bearer = {"Authorization": f"Bearer {made['key']}"}
    assert (await api.client.get("/api/v1/links", headers=bearer)).status_code == 200
    await api.fetch("UPDATE api_keys SET revoked_at = now() WHERE id = $1 RETURNING 1", made["id"])
    assert (await api.client.get("/api/v1/links", headers=bearer)).status_code == 200
    api.clock.advance(seconds=5)
    assert (await api.client.get("/api/v1/links", headers=bearer)).status_code == 401


async def follow(api, path: str) -> list[dict]:
    """Return the pages of a list, following `next`; the header Link must agree."""
    pages = []
    url = path
    while True:
        answer = await api.client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        assert f'<{path}>; rel="first"' in answer.headers["link"]
        cursor = pages[-1]["next"]
        if cursor is None:
            assert 'rel="next"' not in answer.headers["link"]
            return pages
        url = f"{path}&cursor={cursor}"
        assert f'<{url}>; rel="next"' in answer.headers["link"]


async def test_pages_of_keys_have_no_gap_and_no_duplicate(api):
    await api.fetch(
        "INSERT INTO api_keys (name, prefix, hash)"
        " SELECT 'n', 'p' || n, '' FROM generate_series(1, 450) AS n RETURNING 1"
    )
    ids = await api.fetch("SELECT array_agg(id ORDER BY id) FROM api_keys")
    assert len((await api.client.get("/api/v1/keys")).json()["items"]) == 50
    pages = await follow(api, "/api/v1/keys?limit=200")
    assert [len(page["items"]) for page in pages] == [200, 200, len(ids) - 400]
    assert [key["id"] for page in pages for key in page["items"]] == ids


async def test_pages_of_domains_are_ordered_by_host(api):
    # The longest possible host: its cursor must fit.
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    hosts = sorted([longest, "go.test", *(f"h{n}.test" for n in range(120))])
    await api.fetch(
        "INSERT INTO domains (host) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING 1",
        hosts,
    )
    assert len((await api.client.get("/api/v1/domains")).json()["items"]) == 50
    assert (await api.client.get("/api/v1/domains?limit=1")).json()["items"][0]["host"] == longest
    for limit in (1, 100):
        pages = await follow(api, f"/api/v1/domains?limit={limit}")
        assert [domain["host"] for page in pages for domain in page["items"]] == hosts


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/domains"])
async def test_a_page_with_an_invalid_limit_or_cursor_is_rejected(api, path):
    wrong = [
        b'["keys",-1]', b'["keys",9223372036854775808]', b'["keys"]', b'["domains","\\u0000"]',
        b'["domains","\\ud800"]', b'["domains",""]', b'["-created_at",1,1]', b"[]", b"\xff",
        b'["keys","a"]', b'["domains",1]', b'["other",1]',
    ]  # fmt: skip
    cursors = [base64.urlsafe_b64encode(raw).rstrip(b"=").decode() for raw in wrong]
    for cursor in (*cursors, "x", "\u00e4", "A" * 5000):
        answer = await api.client.get(path, params={"cursor": cursor})
        assert answer.status_code == 422, cursor
        assert answer.json()["errors"][0]["pointer"] == "?cursor"
    for limit in ("0", "201", "-1", "x", "9" * 100):
        answer = await api.client.get(path, params={"limit": limit})
        assert answer.status_code == 422, limit
        assert answer.json()["errors"][0]["pointer"] == "?limit"
    assert (await api.client.get(path, params={"sort": "id"})).status_code == 422
