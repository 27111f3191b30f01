"""An answer can be sent back: what cannot be set is ignored, the address must be the link's."""

import pytest

from shortcore.links.rows import READ_ONLY_FIELDS
from writer.links.schemas import CreateLink, LinkView, ReplaceLink

LINKS = "/api/v1/links"
FULL = {
    "code": "Sale", "redirect_status": 308, "enabled": False, "valid_from": "2031-01-01T00:00:00Z",
    "expires_at": "2090-01-01T00:00:00Z", "expired_target": "https://example.com/over",
    "max_visits": 5, "forward_query": True, "forward_path": True, "title": "Sale", "tags": ["x"],
    "note": "A note",
}  # fmt: skip


def test_the_read_only_fields_are_those_that_no_request_can_set():
    settable = CreateLink.model_fields.keys()
    assert frozenset(LinkView.__struct_fields__) - settable == READ_ONLY_FIELDS
    assert ReplaceLink.model_fields.keys() - {"has_password"} < settable


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_link_that_is_sent_back_as_it_was_read_does_not_change(api, method):
    made = await api.create(**FULL, password="a secret")
    read = (await api.client.get(made["self"])).json()
    answer = await api.client.request(method, read["self"], json=read)
    assert answer.status_code == 200, answer.text
    assert answer.json() == read
    assert (await api.client.get(made["self"])).json() == read


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_link_is_sent_back_though_its_values_would_be_refused_today(api, method):
    made = await api.create(**FULL)
    await api.fetch(
        "UPDATE links SET target = 'https://go.test/loop', expires_at = now() RETURNING 1"
    )
    read = (await api.client.get(made["self"])).json()
    read["valid_from"] = None
    answer = await api.client.request(method, read["self"], json=read)
    assert answer.status_code == 200, answer.text
    assert answer.json()["target"] == "https://go.test/loop"


async def test_a_link_is_created_elsewhere_from_its_answer(api):
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    read = await api.create(**FULL)
    copy = await api.client.post(LINKS, json=read | {"domain": "two.test"})
    assert copy.status_code == 201, copy.text
    own = READ_ONLY_FIELDS - {"visits", "status", "has_password", "deleted_at"} | {"domain"}
    assert {k: v for k, v in copy.json().items() if k not in own} == {
        k: v for k, v in read.items() if k not in own
    }
    batch = await api.client.post(f"{LINKS}:batch", json={"items": [read | {"code": "Other"}]})
    assert batch.json()["items"][0]["status"] == 201


async def test_an_import_ignores_the_read_only_columns(api):
    head = ["target", "enabled", *sorted(READ_ONLY_FIELDS)]
    row = ["https://example.com/", "no", *("made up" for _ in READ_ONLY_FIELDS)]
    answer = await api.client.post(
        f"{LINKS}:import",
        content=f"{','.join(head)}\n{','.join(row)}\n",
        headers={"content-type": "text/csv"},
    )
    assert answer.json() == {"rows": 1, "created": 1, "failed": []}
    (link,) = (await api.client.get(LINKS, params={"status": "disabled"})).json()["items"]
    assert link["visits"] == 0


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"code": "sale"}, "/code"),
        ({"code": None}, "/code"),
        ({"domain": "two.test"}, "/domain"),
        ({"domain": "no host name"}, "/domain"),
        ({"domain": None}, "/domain"),
    ],
)
async def test_an_address_other_than_the_links_is_refused(api, method, wrong, pointer):
    read = await api.create(code="Sale")
    answer = await api.client.request(method, read["self"], json=read | wrong)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["rule"]) == (pointer, "immutable")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_the_address_may_be_spelled_as_in_the_path(api, method):
    await api.client.post("/api/v1/domains", json={"host": "p.test", "case_insensitive": True})
    await api.create(code="sale", domain="p.test")
    body = {"target": "https://example.com/", "code": "SALE", "domain": "P.TEST"}
    answer = await api.client.request(method, f"{LINKS}/P.test/SALE", json=body)
    assert (answer.status_code, answer.json()["code"]) == (200, "sale")


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
async def test_a_field_that_no_answer_has_is_still_refused(api, method):
    read = await api.create(code="Sale")
    path = LINKS if method == "POST" else read["self"]
    answer = await api.client.request(method, path, json=read | {"hits": 1})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["rule"]) == ("/hits", "unknown-field")


async def test_a_domain_that_is_sent_back_does_not_change_and_keeps_its_host(api):
    sent = {"host": "two.test", "default_target": "https://example.com/"}
    made = (await api.client.post("/api/v1/domains", json=sent)).json()
    again = await api.client.patch(made["self"], json=made | {"host": "TWO.test"})
    assert (again.status_code, again.json()) == (200, made)
    moved = await api.client.patch(made["self"], json=made | {"host": "three.test"})
    assert moved.status_code == 422
    assert moved.json()["errors"][0]["pointer"] == "/host"
    copy = await api.client.post("/api/v1/domains", json=made | {"host": "three.test"})
    assert (copy.status_code, copy.json()["default"]) == (201, False)


async def test_a_key_is_made_from_the_answer_of_another(api):
    made = (await api.client.post("/api/v1/keys", json={"name": "one"})).json()
    copy = await api.client.post("/api/v1/keys", json=made)
    assert copy.status_code == 201, copy.text
    assert copy.json()["key"] != made["key"]
