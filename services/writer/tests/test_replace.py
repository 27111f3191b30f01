"""PUT declares a link: it is created or replaced, and the same request changes nothing."""

import asyncio

import pytest

from shortcore.links.record import Kind, link_key

LINKS = "/api/v1/links"
SALE = f"{LINKS}/go.test/Sale"
BODY = {"target": "https://example.com/"}


async def put(api, body=BODY, path=SALE, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.client.put(path, json=body, headers=named)


async def test_it_creates_then_keeps_then_replaces(api):
    created = await put(api, BODY | {"title": "Sale", "max_visits": 5, "tags": ["x"]})
    assert created.status_code == 201, created.text
    link = created.json()
    assert (link["code"], link["title"], created.headers["location"]) == ("Sale", "Sale", SALE)
    record = await api.container.cache.get(link_key("go.test", "Sale"))
    assert record.version == link["version"]

    again = await put(api, BODY | {"title": "Sale", "max_visits": 5, "tags": ["x"]})
    assert (again.status_code, again.json()) == (200, link)

    replaced = await put(api, BODY | {"note": "A note", "redirect_status": 301})
    assert (replaced.status_code, replaced.headers["location"]) == (200, SALE)
    after = replaced.json()
    # What is left out has its default again; what nobody sets stays.
    assert (after["title"], after["max_visits"], after["tags"]) == (None, None, [])
    assert (after["note"], after["redirect_status"]) == ("A note", 301)
    assert after["created_at"] == link["created_at"]
    assert after["version"] > link["version"]
    record = await api.container.cache.get(link_key("go.test", "Sale"))
    assert (record.version, record.redirect_status) == (after["version"], 301)


async def test_every_change_has_an_outbox_row_and_no_repetition_has(api):
    await put(api)
    await put(api)
    await put(api, {"target": "https://example.com/new"})
    assert await api.fetch("SELECT count(*) FROM outbox WHERE code = 'Sale'") == 2


async def test_if_none_match_only_creates(api):
    assert (await put(api, if_none_match="*")).status_code == 201
    refused = await put(api, {"target": "https://example.com/new"}, if_none_match="*")
    assert (refused.status_code, refused.json()["type"]) == (
        412,
        "urn:shortlinks:problem:version-mismatch",
    )
    await api.client.delete(SALE)  # in the trash it is still there
    assert (await put(api, if_none_match="*")).status_code == 412
    assert (await api.client.get(SALE)).json()["target"] == "https://example.com/"


async def test_if_match_only_replaces_that_version(api):
    for tag in ("*", '"1"'):
        assert (await put(api, if_match=tag)).status_code == 412
    assert (await api.client.get(SALE)).status_code == 404
    etag = (await put(api)).headers["etag"]
    new = {"target": "https://example.com/new"}
    assert (await put(api, new, if_match='"1"')).status_code == 412
    assert (await put(api, new, if_match=etag)).status_code == 200
    assert (await put(api, BODY, if_match="*")).status_code == 200


async def test_a_link_in_the_trash_is_taken_out_as_declared(api):
    link = (await put(api, BODY | {"title": "old"})).json()
    await api.client.delete(SALE)
    back = await put(api)
    assert back.status_code == 200
    after = back.json()
    assert (after["status"], after["deleted_at"], after["title"]) == ("active", None, None)
    assert after["created_at"] == link["created_at"]
    record = await api.container.cache.get(link_key("go.test", "Sale"))
    assert (record.kind, record.version) == (Kind.ACTIVE, after["version"])
    await api.client.delete(SALE)
    await api.client.delete(SALE, params={"purge": "true"})
    assert (await put(api)).status_code == 201


async def test_a_password_stays_while_it_is_declared_or_said_to_be_there(api):
    def stored():
        return api.fetch("SELECT password_hash FROM links WHERE code = 'Sale'")

    first = await put(api, BODY | {"password": "a secret"})
    assert first.json()["has_password"] is True
    hashed = await stored()
    again = await put(api, BODY | {"password": "a secret"})
    assert (again.json(), await stored()) == (first.json(), hashed)
    kept = await put(api, BODY | {"has_password": True, "title": "new"})
    assert (kept.json()["has_password"], await stored()) == (True, hashed)
    other = await put(api, BODY | {"password": "another"})
    assert other.json()["version"] > kept.json()["version"]
    assert await stored() != hashed
    assert (await put(api)).json()["has_password"] is False
    assert await stored() is None


@pytest.mark.parametrize(
    ("path", "body", "status", "pointer"),
    [
        (f"{LINKS}/go.test/API", BODY, 422, "/code"),
        (f"{LINKS}/go.test/a%20b", BODY, 422, "/code"),
        (SALE, {"target": "e.com"}, 422, "/target"),
        (SALE, {}, 422, "/target"),
        (SALE, BODY | {"find_if_exists": True}, 422, "/find_if_exists"),
        (SALE, BODY | {"expires_at": "2020-01-01T00:00:00Z"}, 422, "/expires_at"),
        (f"{LINKS}/unknown.test/Sale", BODY, 404, None),
    ],
)
async def test_what_cannot_be_a_link_is_refused(api, path, body, status, pointer):
    answer = await put(api, body, path)
    assert answer.status_code == status, answer.text
    if pointer is not None:
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await api.fetch("SELECT count(*) FROM links") == 0


async def test_of_many_equal_requests_one_creates(api):
    answers = await asyncio.gather(*(put(api) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["version"] for answer in answers}) == 1
    only = await asyncio.gather(
        *(put(api, path=f"{LINKS}/go.test/b", if_none_match="*") for _ in range(8))
    )
    assert sorted(answer.status_code for answer in only) == [201] + [412] * 7


async def test_a_case_insensitive_domain_stores_the_code_in_lower_case(api):
    await api.client.post("/api/v1/domains", json={"host": "p.test", "case_insensitive": True})
    created = await put(api, path=f"{LINKS}/p.test/SALE")
    assert (created.status_code, created.json()["code"]) == (201, "sale")
    assert created.headers["location"] == f"{LINKS}/p.test/sale"
    again = await put(api, path=f"{LINKS}/p.test/Sale")
    assert (again.status_code, again.json()) == (200, created.json())
