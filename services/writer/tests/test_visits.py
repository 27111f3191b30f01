"""Counted clicks and visits of links: in responses, and as an order and a filter of the list."""

import pytest

LINKS = "/api/v1/links"


async def count(api, code, clicks, visits):
    """Write the totals of a link as the worker does."""
    await api.fetch(
        "INSERT INTO link_totals SELECT id, $2, $3, now() FROM links WHERE code = $1 RETURNING 1",
        code,
        clicks,
        visits,
    )


async def listed(api, **params):
    """Return the codes of all pages of a list, two links a page."""
    answer = await api.client.get(LINKS, params={"limit": 2, **params})
    codes = []
    while True:
        assert answer.status_code == 200, answer.text
        codes += [link["code"] for link in answer.json()["items"]]
        if answer.json()["next"] is None:
            return "".join(codes)
        answer = await api.client.get(answer.links["next"]["url"])


async def test_a_link_has_the_clicks_and_visits_that_were_counted(api):
    link = await api.create(code="a")
    assert (link["clicks"], link["visits"]) == (0, 0)
    assert (await api.client.get(link["self"])).json() == link
    await count(api, "a", 5, 3)
    counted = link | {"clicks": 5, "visits": 3}
    assert (await api.client.get(link["self"])).json() == counted
    assert (await api.client.get(LINKS)).json()["items"] == [counted]
    edited = (await api.client.patch(link["self"], json={"title": "T"})).json()
    assert (edited["clicks"], edited["visits"]) == (5, 3)
    same = {"target": link["target"], "title": "T", "find_if_exists": True}
    found = await api.client.post(LINKS, json=same)
    assert (found.status_code, found.json()) == (200, edited)
    put = await api.client.put(link["self"], json={"target": link["target"]})
    assert (put.json()["clicks"], put.json()["visits"]) == (5, 3)


async def test_visits_of_a_limited_link_are_those_that_count_down_its_limit(api):
    link = await api.create(code="a", max_visits=2)
    await count(api, "a", 9, 7)
    await api.fetch("UPDATE links SET visits = 2 RETURNING 1")
    shown = (await api.client.get(link["self"])).json()
    assert (shown["visits"], shown["clicks"], shown["status"]) == (2, 9, "exhausted")
    unlimited = (await api.client.patch(link["self"], json={"max_visits": None})).json()
    assert (unlimited["visits"], unlimited["status"]) == (7, "active")


async def test_a_purged_link_leaves_no_totals(api):
    link = await api.create(code="a")
    await count(api, "a", 1, 1)
    await api.client.delete(link["self"])
    assert (await api.client.delete(f"{link['self']}?purge=true")).status_code == 204
    assert await api.fetch("SELECT count(*) FROM link_totals") == 0


@pytest.fixture
async def links(api):
    """Links a to g with 3, none, 0, 3, 8, none and 1 visits."""
    for code, visits in zip("abcdefg", (3, None, 0, 3, 8, None, 1), strict=True):
        await api.create(code=code, tags=["odd"] if code in "aceg" else [])
        if visits is not None:
            await count(api, code, 10, visits)


@pytest.mark.usefixtures("links")
async def test_the_list_can_be_sorted_by_visits(api):
    # Ids are in the order of creation here; links without counted visits have 0.
    assert await listed(api, sort="-visits") == "edagfcb"
    assert await listed(api, sort="visits") == "bcfgade"
    assert await listed(api, sort="-visits", tag="odd") == "eagc"
    assert await listed(api, sort="visits", tag="odd", limit=1) == "cgae"


@pytest.mark.usefixtures("links")
async def test_the_list_can_be_narrowed_to_links_with_visits(api):
    assert await listed(api, sort="created_at", min_visits=0) == "abcdefg"
    assert await listed(api, sort="created_at", min_visits=1) == "adeg"
    assert await listed(api, sort="-created_at", min_visits=3) == "eda"
    assert await listed(api, sort="-visits", min_visits=1, limit=1) == "edag"
    assert await listed(api, sort="visits", min_visits=4) == "e"
    assert await listed(api, sort="visits", min_visits=9) == ""


@pytest.mark.usefixtures("links")
async def test_a_cursor_among_links_without_visits_works_with_a_filter_that_excludes_them(api):
    first = await api.client.get(LINKS, params={"sort": "visits", "limit": 1})
    cursor = first.json()["next"]
    assert await listed(api, sort="visits", cursor=cursor) == "cfgade"
    assert await listed(api, sort="visits", cursor=cursor, min_visits=1) == "gade"
    last = await api.client.get(LINKS, params={"sort": "-visits", "limit": 6})
    assert await listed(api, sort="-visits", cursor=last.json()["next"], min_visits=1) == ""


@pytest.mark.parametrize("value", ["-1", "x", "1.0", str(10**13)])
async def test_an_invalid_number_of_visits_is_rejected(api, value):
    answer = await api.client.get(LINKS, params={"min_visits": value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "?min_visits"
