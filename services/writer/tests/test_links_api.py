"""Single links: create, read, edit, delete, restore, purge, list."""

import asyncio
import base64

from argon2 import PasswordHasher

from shortcore.links.record import Kind, link_key

HOST = "go.test"


async def test_the_response_to_a_create_has_every_field_of_the_link(api):
    sent = {
        "target": "HTTPS://Example.com:443/ä?q#f",
        "code": "Sale-1",
        "redirect_status": 301,
        "valid_from": "2030-01-01T00:00:00+02:00",
        "expires_at": "2031-01-01T00:00:00.1239Z",
        "expired_target": "https://example.com/over",
        "max_visits": 7,
        "password": "open sesame",
        "forward_query": True,
        "forward_path": True,
        "title": "A title",
        "tags": ["b", "a", "b"],
        "note": "A note",
    }
    answer = await api.client.post("/api/v1/links", json=sent)
    assert answer.status_code == 201, answer.text
    link = answer.json()
    assert answer.headers["location"] == link["self"] == f"/api/v1/links/{HOST}/Sale-1"
    assert answer.headers["etag"] == f'"{link["version"]}"'
    assert link["created_at"] == link["updated_at"]
    for unknown in ("version", "created_at", "updated_at"):
        del link[unknown]
    assert link == {
        "code": "Sale-1",
        "domain": HOST,
        "short_url": f"https://{HOST}/Sale-1",
        "target": "https://example.com/%C3%A4?q#f",
        "redirect_status": 301,
        "enabled": True,
        "status": "scheduled",
        "valid_from": "2029-12-31T22:00:00Z",
        "expires_at": "2031-01-01T00:00:00.123000Z",
        "expired_target": "https://example.com/over",
        "max_visits": 7,
        "visits": 0,
        "clicks": 0,
        "has_password": True,
        "forward_query": True,
        "forward_path": True,
        "title": "A title",
        "tags": ["b", "a"],
        "note": "A note",
        "deleted_at": None,
        "self": f"/api/v1/links/{HOST}/Sale-1",
    }
    assert (await api.client.get(link["self"])).json().items() >= link.items()
    stored = await api.fetch("SELECT password_hash FROM links")
    assert PasswordHasher().verify(stored, "open sesame")


async def test_a_new_link_is_in_redis_and_in_the_outbox_when_the_response_is_sent(api):
    link = await api.create(title="T")
    record = await api.container.cache.get(link_key(HOST, link["code"]))
    assert record is not None
    assert (record.version, record.target, record.title) == (link["version"], link["target"], "T")
    rows = await api.fetch("SELECT json_agg((host, code, version)) FROM outbox WHERE code <> ''")
    assert f'{{"f1":"{HOST}","f2":"{link["code"]}","f3":{link["version"]}}}' in rows


async def test_a_merge_patch_changes_the_named_fields_and_null_sets_the_default(api):
    link = await api.create(title="T", note="N", redirect_status=301, tags=["x"], max_visits=3)
    patch = {"title": None, "redirect_status": None, "tags": None, "max_visits": 9}
    answer = await api.client.patch(
        link["self"], json=patch, headers={"Content-Type": "application/merge-patch+json"}
    )
    edited = answer.json()
    assert answer.status_code == 200
    assert edited["version"] > link["version"]
    assert answer.headers["etag"] == f'"{edited["version"]}"'
    changed = {"title": None, "redirect_status": 302, "tags": [], "max_visits": 9}
    moving = {"version": edited["version"], "updated_at": edited["updated_at"]}
    assert edited == link | changed | moving
    assert edited["updated_at"] > link["updated_at"]
    record = await api.container.cache.get(link_key(HOST, link["code"]))
    assert record is not None
    assert record.version == edited["version"]


async def test_a_patch_that_changes_nothing_keeps_the_version(api):
    link = await api.create(title="T")
    outbox = await api.fetch("SELECT count(*) FROM outbox")
    for patch in ({}, {"title": "T"}, {"target": "https://EXAMPLE.com"}):
        answer = await api.client.patch(link["self"], json=patch)
        assert (answer.status_code, answer.json()) == (200, link)
    assert await api.fetch("SELECT count(*) FROM outbox") == outbox


async def test_a_password_is_hashed_in_unicode_normalization_form_c(api):
    await api.create(password="cre\u0300me")
    stored = await api.fetch("SELECT password_hash FROM links")
    assert PasswordHasher().verify(stored, "cr\u00e8me")


async def test_a_password_can_be_set_and_removed(api):
    link = await api.create()
    answer = await api.client.patch(link["self"], json={"password": "p"})
    assert answer.json()["has_password"]
    answer = await api.client.patch(link["self"], json={"title": "kept"})
    assert answer.json()["has_password"]
    answer = await api.client.patch(link["self"], json={"password": None})
    assert not answer.json()["has_password"]


async def test_an_edit_of_an_old_version_is_rejected_and_changes_nothing(api):
    link = await api.create()
    old = f'"{link["version"]}"'
    new = await api.client.patch(link["self"], json={"title": "1"}, headers={"If-Match": old})
    assert new.status_code == 200
    for send in (
        api.client.patch(link["self"], json={"title": "2"}, headers={"If-Match": old}),
        api.client.delete(link["self"], headers={"If-Match": old}),
        api.client.patch(
            link["self"], json={"title": "2"}, headers={"If-Match": "W/" + new.headers["etag"]}
        ),
    ):
        answer = await send
        assert answer.status_code == 412
        assert answer.json()["type"] == "urn:shortlinks:problem:version-mismatch"
    assert (await api.client.get(link["self"])).json() == new.json()
    listed = {"If-Match": f'"1", {new.headers["etag"]}'}
    assert (await api.client.patch(link["self"], json={}, headers=listed)).status_code == 200
    anything = {"If-Match": "*"}
    assert (await api.client.delete(link["self"], headers=anything)).status_code == 204


async def test_of_concurrent_edits_of_one_version_exactly_one_wins(api):
    link = await api.create()
    tag = {"If-Match": f'"{link["version"]}"'}
    answers = await asyncio.gather(
        *(api.client.patch(link["self"], json={"title": str(n)}, headers=tag) for n in range(8))
    )
    assert sorted(each.status_code for each in answers) == [200] + [412] * 7


async def test_an_unchanged_link_is_a_304(api):
    link = await api.create()
    tag = f'"{link["version"]}"'
    for sent in (tag, f"W/{tag}", f'"0", {tag}', "*"):
        answer = await api.client.get(link["self"], headers={"If-None-Match": sent})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    answer = await api.client.get(link["self"], headers={"If-None-Match": '"0"'})
    assert answer.status_code == 200


async def test_a_deleted_link_stays_in_the_trash_until_it_is_restored(api):
    link = await api.create(title="secret")
    for _ in range(2):
        assert (await api.client.delete(link["self"])).status_code == 204
    trashed = (await api.client.get(link["self"])).json()
    assert (trashed["enabled"], trashed["status"]) == (True, "deleted")
    assert trashed["deleted_at"]
    record = await api.container.cache.get(link_key(HOST, link["code"]))
    assert record is not None
    assert (record.kind, record.version) == (Kind.DELETED, trashed["version"])
    edit = await api.client.patch(link["self"], json={"title": "x"})
    assert (edit.status_code, edit.json()["type"]) == (409, "urn:shortlinks:problem:link-deleted")
    restored = await api.client.post(link["self"] + ":restore")
    assert restored.status_code == 200
    assert (restored.json()["status"], restored.json()["deleted_at"]) == ("active", None)
    again = await api.client.post(link["self"] + ":restore")
    assert again.json() == restored.json()


async def test_only_a_deleted_link_can_be_purged_and_its_code_gets_newer_versions(api):
    link = await api.create(code="mine")
    early = await api.client.delete(link["self"], params={"purge": True})
    assert (early.status_code, early.json()["type"]) == (409, "urn:shortlinks:problem:conflict")
    await api.client.delete(link["self"])
    taken = await api.client.post("/api/v1/links", json={"target": "https://a.b/", "code": "mine"})
    assert taken.status_code == 409
    assert "trash" in taken.json()["detail"]
    assert (await api.client.delete(link["self"], params={"purge": True})).status_code == 204
    assert (await api.client.get(link["self"])).status_code == 404
    gone = await api.container.cache.get(link_key(HOST, "mine"))
    assert gone is not None
    assert gone.kind is Kind.ABSENT
    assert gone.version == await api.fetch("SELECT max(version) FROM outbox WHERE code = 'mine'")
    assert gone.version == await api.fetch("SELECT version FROM purged WHERE code = 'mine'")
    assert (await api.create(code="mine"))["version"] > gone.version


async def test_concurrent_purges_and_creates_of_one_code_never_go_back_in_version(api):
    async def create() -> None:
        await api.client.post("/api/v1/links", json={"target": "https://a.b/", "code": "x"})

    async def purge() -> None:
        path = f"/api/v1/links/{HOST}/x"
        await api.client.delete(path)
        await api.client.delete(path, params={"purge": True})

    await asyncio.gather(*(work() for _ in range(20) for work in (create, purge, create)))
    # Redirectors end with the newest outbox row, so it must be the state of the table.
    newest = await api.fetch("SELECT max(version) FROM outbox WHERE code = 'x'")
    stands = await api.fetch("SELECT version FROM links WHERE code = 'x'")
    record = await api.container.cache.get(link_key(HOST, "x"))
    assert record is not None
    assert record.version == newest
    assert stands in {None, newest}
    assert (record.kind is Kind.ABSENT) == (stands is None)


async def test_the_status_depends_on_the_time_and_the_visits(api):
    day = {"valid_from": "2040-01-01T00:00:00Z", "expires_at": "2040-01-02T00:00:00Z"}
    link = await api.create(**day, max_visits=2)

    async def status() -> str:
        got: str = (await api.client.get(link["self"])).json()["status"]
        return got

    assert await status() == "scheduled"
    api.clock.advance_to(api.clock.now().replace(year=2040, month=1, day=1, hour=1))
    # The cached key is a year old by this clock, so it is read again.
    assert await status() == "active"
    await api.fetch("UPDATE links SET visits = 2 WHERE code = $1 RETURNING 1", link["code"])
    assert await status() == "exhausted"
    api.clock.advance(days=1)
    assert await status() == "expired"
    await api.client.patch(link["self"], json={"enabled": False})
    assert await status() == "disabled"


async def test_find_if_exists_returns_an_equal_link(api):
    fields = {"title": "T", "tags": ["a"], "expires_at": "2040-01-01T00:00:00Z"}
    link = await api.create(**fields)
    again = {"target": "https://EXAMPLE.com", **fields, "find_if_exists": True}
    answer = await api.client.post("/api/v1/links", json=again)
    assert (answer.status_code, answer.json()) == (200, link)
    for other in ({"title": "U"}, {"code": "other"}, {"tags": []}, {"redirect_status": 307}):
        answer = await api.client.post("/api/v1/links", json=again | other)
        assert answer.status_code == 201, other
    await api.client.delete(link["self"])
    answer = await api.client.post("/api/v1/links", json=again)
    assert (answer.status_code, answer.json()["code"]) == (200, "other")


async def test_a_link_with_used_visits_is_not_equal_to_a_new_link(api):
    asked = {"target": "https://example.com/", "max_visits": 2, "find_if_exists": True}
    made = [await api.client.post("/api/v1/links", json=asked) for _ in range(2)]
    assert [each.status_code for each in made] == [201, 200]
    await api.fetch("UPDATE links SET visits = 1")
    assert (await api.client.post("/api/v1/links", json=asked)).status_code == 201


async def test_concurrent_requests_with_find_if_exists_create_one_link(api):
    body = {"target": "https://example.com/one", "find_if_exists": True}
    answers = await asyncio.gather(*(api.client.post("/api/v1/links", json=body) for _ in range(8)))
    assert sorted(each.status_code for each in answers) == [200] * 7 + [201]
    assert len({each.json()["code"] for each in answers}) == 1


async def test_pages_have_no_gap_and_no_duplicate_while_links_are_created(api):
    made = [(await api.create(tags=["t"]))["code"] for _ in range(7)]
    for sort, wanted in (("created_at", made), ("-created_at", made[::-1])):
        url: str | None = f"/api/v1/links?limit=3&tag=t&sort={sort}"
        seen = []
        while url is not None:
            page = await api.client.get(url)
            assert page.status_code == 200, page.text
            seen += [link["code"] for link in page.json()["items"]]
            if sort == "-created_at":
                await api.create(tags=["t"])  # newer than the first page: never on a later one
            url = page.links.get("next", {}).get("url")
            assert (url is None) == (page.json()["next"] is None)
            assert page.links["first"]["url"] == f"/api/v1/links?limit=3&tag=t&sort={sort}"
        assert seen == wanted


async def test_each_filter_narrows_the_list(api):
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    await api.create("https://a.test/100%25", code="a", tags=["x", "y"], title="Straße_1")
    await api.create("https://b.test/", code="b", tags=["x"], enabled=False)
    await api.create("https://c.test/", code="c", domain="two.test")
    await api.create("https://d.test/", code="d", valid_from="2040-01-01T00:00:00Z")
    await api.create("https://g.example/", code="g", max_visits=1)
    await api.fetch("UPDATE links SET visits = 1 WHERE code = 'g' RETURNING 1")
    gone = await api.create("https://e.test/", code="e")
    await api.client.delete(gone["self"])
    ended = await api.create("https://f.test/", code="f", expires_at="2040-01-01T00:00:00Z")
    await api.fetch("UPDATE links SET expires_at = now() WHERE code = 'f' RETURNING 1")

    async def codes(**params: object) -> str:
        answer = await api.client.get("/api/v1/links", params={"sort": "created_at", **params})
        assert answer.status_code == 200, answer.text
        return "".join(link["code"] for link in answer.json()["items"])

    assert await codes() == "abcdgf"
    assert await codes(domain="TWO.test") == "c"
    assert await codes(tag="x") == "ab"
    assert await codes(tag=["x", "y"]) == "a"
    assert await codes(status="active") == "ac"
    assert await codes(status="disabled") == "b"
    assert await codes(status="deleted") == "e"
    assert await codes(status="scheduled") == "d"
    assert await codes(status="expired") == "f"
    assert await codes(status="exhausted") == "g"
    assert await codes(status=["disabled", "deleted", "exhausted", "disabled"]) == "bge"
    assert await codes(q="A.TEST") == "a"
    assert await codes(q="straße_") == "a"
    assert await codes(q="%") == "a"
    assert await codes(q="_") == "a"
    assert await codes(created_after=gone["created_at"]) == "f"
    assert await codes(created_before=gone["created_at"], q="test") == "abcd"
    assert await codes(created_after=ended["created_at"]) == ""
    tags = (await api.client.get("/api/v1/tags")).json()
    assert tags == {"items": [{"tag": "x", "links": 2}, {"tag": "y", "links": 1}]}


async def test_a_forged_cursor_is_rejected(api):
    for _ in range(2):
        await api.create()
    page = await api.client.get("/api/v1/links", params={"limit": 1})
    cursor = page.json()["next"]
    forged = [
        base64.urlsafe_b64encode(raw).decode()
        for raw in (
            b'["-created_at",1e400,1]',
            b'["-created_at",9223372036854775807,1]',
            b'["-created_at",1,99999999999999999999]',
            b'["-created_at",1,-1]',
            b"[]",
            b"\xff",
        )
    ]
    for text in (*forged, "x", "ä", "A" * 5000, cursor + "\n"):
        answer = await api.client.get("/api/v1/links", params={"cursor": text})
        assert answer.status_code == 422, text
        assert answer.json()["errors"][0]["pointer"] == "?cursor"
    answer = await api.client.get("/api/v1/links", params={"cursor": cursor, "sort": "created_at"})
    assert answer.status_code == 422
