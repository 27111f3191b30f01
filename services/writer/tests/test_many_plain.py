"""The short ways of many plain links: the same drafts and the same rows as by the long ways."""

import pytest

from shortcore.errors import InvalidInput

BATCH = "/api/v1/links:batch"
PLAIN = {"target": "https://example.com/a?b=c"}
RICH = {
    "target": "HTTPS://Example.com",
    "code": "rich",
    "status_code": 308,
    "state": "disabled",
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
async def test_a_plain_item_is_the_same_draft_by_the_short_way(api, item):
    draft = api.parts.links.plain(item, "/items/3")
    assert draft is not None
    assert draft == await api.parts.batches.draft(item, "/items/3")


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
async def test_whatever_is_not_plain_is_checked_in_full(api, item):
    assert api.parts.links.plain(item) is None


async def test_links_to_our_own_domain_are_no_plain_ones_once_it_is_known(api):
    item = {"target": "https://two.test/a"}
    assert api.parts.links.plain(item) is not None
    await api.client.post("/api/v1/domains", json={"host": "two.test"})
    assert api.parts.links.plain(item) is None
    with pytest.raises(InvalidInput):
        await api.parts.batches.draft(item, "")


@pytest.mark.parametrize("rich", [[], [RICH]])
async def test_what_a_large_batch_answers_is_what_is_stored(api, rich):
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
    assert waiting == len(items)
