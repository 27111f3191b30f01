"""Case-insensitive domains: codes are stored in lower case, and any spelling finds them."""

import asyncio

import pytest
from harness.tables import Table

from shortcore.links.folded_codes import FOLDED_ALPHABET

HOST = "print.test"


async def add(api, host=HOST, **fields):
    answer = await api.client.post("/api/v1/domains", json={"host": host, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def switch(api, on, host=HOST):
    return await api.client.patch(f"/api/v1/domains/{host}", json={"case_insensitive": on})


async def codes(api, host=HOST):
    return await api.fetch(
        "SELECT array_agg(code ORDER BY code) FROM links JOIN domains d ON d.id = domain_id"
        " WHERE d.host = $1",
        host,
    )


async def test_a_domain_is_case_sensitive_by_default(api):
    assert (await add(api))["case_insensitive"] is False
    assert (await switch(api, True)).json()["case_insensitive"] is True
    answer = await switch(api, None)
    assert answer.json()["case_insensitive"] is False
    for wrong in ("true", 1, []):
        assert (await switch(api, wrong)).status_code == 422


async def test_a_custom_code_is_stored_in_lower_case_and_found_in_any_case(api):
    await add(api, case_insensitive=True)
    link = await api.create(domain=HOST, code="Spring-SALE")
    assert (link["code"], link["short_url"]) == ("spring-sale", f"https://{HOST}/spring-sale")
    for spelling in ("spring-sale", "SPRING-SALE", "Spring-Sale"):
        path = f"/api/v1/links/{HOST}/{spelling}"
        assert (await api.client.get(path)).json()["code"] == "spring-sale"
        answer = await api.client.patch(path, json={"title": spelling})
        assert answer.json()["title"] == spelling
    taken = await api.client.post(
        "/api/v1/links",
        json={"target": "https://example.com/", "domain": HOST, "code": "SPRING-sale"},
    )
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:shortlinks:problem:code-taken")


async def test_a_purge_in_another_spelling_publishes_the_stored_key(api):
    await add(api, case_insensitive=True)
    await api.create(domain=HOST, code="gone")
    path = f"/api/v1/links/{HOST}/GONE"
    assert (await api.client.delete(path)).status_code == 204
    assert (await api.client.delete(f"{path}?purge=true")).status_code == 204
    assert await api.fetch("SELECT code FROM purged") == "gone"


async def test_a_case_sensitive_domain_distinguishes_upper_and_lower_case(api):
    await add(api)
    for code in ("sale", "Sale", "SALE"):
        assert (await api.create(domain=HOST, code=code))["code"] == code
    assert (await api.client.get(f"/api/v1/links/{HOST}/sAle")).status_code == 404


async def test_generated_codes_are_in_lower_case_without_look_alikes(api):
    await add(api, case_insensitive=True)
    items = [{"target": f"https://example.com/{n}", "domain": HOST} for n in range(150)]
    answer = await api.client.post("/api/v1/links:batch", json={"items": items})
    made = [each["link"]["code"] for each in answer.json()["items"]]
    made.append((await api.create(domain=HOST))["code"])
    assert all(len(code) == 7 and set(code) <= set(FOLDED_ALPHABET) for code in made)
    assert len(set(made)) == 151


async def test_a_batch_and_an_import_reject_two_spellings_of_one_code(api):
    await add(api, case_insensitive=True)
    items = [
        {"target": "https://example.com/", "domain": HOST, "code": code} for code in ("One", "ONE")
    ]
    answer = await api.client.post("/api/v1/links:batch", json={"items": items})
    assert [each["status"] for each in answer.json()["items"]] == [201, 409]
    answer = await api.client.post(
        "/api/v1/links:import",
        content=f"target,domain,code\nhttps://example.com/,{HOST},Two\n"
        f"https://example.com/,{HOST},tWO\nhttps://example.com/,{HOST},ONE\n",
        headers={"Content-Type": "text/csv"},
    )
    assert (answer.json()["created"], len(answer.json()["failed"])) == (1, 2)
    assert await codes(api) == ["one", "two"]


async def test_a_domain_with_capital_letters_in_its_codes_cannot_become_case_insensitive(api):
    await add(api)
    await api.create(domain=HOST, code="Sale")
    await api.client.delete(f"/api/v1/links/{HOST}/Sale")  # it may be restored
    answer = await switch(api, True)
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "urn:shortlinks:problem:domain-in-use"
    assert problem["errors"][0]["pointer"] == "/case_insensitive"
    assert "Sale" in problem["detail"]
    await api.client.delete(f"/api/v1/links/{HOST}/Sale?purge=true")
    await api.create(domain=HOST, code="lower_1")
    assert (await switch(api, True)).status_code == 200
    assert (await switch(api, False)).status_code == 200


@pytest.mark.parametrize("many", [1, 150])
async def test_a_writer_with_an_outdated_domain_cache_stores_no_capital_letter(
    settings, opened, many
):
    async with opened(settings) as first, opened(settings) as second:
        await add(first)
        await second.container.domain_cache.refresh()
        assert (await switch(first, True)).status_code == 200
        for code in ("Sale", None):
            items = [
                {"target": "https://example.com/", "domain": HOST}
                | ({"code": f"{code}{number}"} if code else {})
                for number in range(many)
            ]
            answer = await second.client.post("/api/v1/links:batch", json={"items": items})
            made = [each["link"]["code"] for each in answer.json()["items"]]
            assert made == [code.lower() for code in made]
            if code:
                assert made == [f"sale{number}" for number in range(many)]
        link = await second.create(domain=HOST, code="Other")
        assert link["code"] == "other"
        stored = await codes(first)
        assert stored == sorted(code.lower() for code in stored)
        assert len(stored) == 2 * many + 1


async def test_a_switch_waits_for_an_open_create_and_is_rejected(api):
    await add(api)
    async with api.container.postgres.connection() as connection:
        creating = connection.transaction()
        await creating.start()
        await Table(connection, HOST).link("Sale")
        switching = asyncio.create_task(switch(api, True))
        await asyncio.sleep(0.3)
        assert not switching.done()
        await creating.commit()
        assert (await switching).status_code == 409


async def test_a_create_waits_for_an_open_switch_and_folds_its_code(api):
    await add(api)
    async with api.container.postgres.connection() as connection:
        switching = connection.transaction()
        await switching.start()
        await connection.execute("SELECT 1 FROM domains WHERE host = $1 FOR UPDATE", HOST)
        await Table(connection, HOST).edit_domain(case_insensitive=True)
        creating = asyncio.create_task(api.create(domain=HOST, code="Sale"))
        await asyncio.sleep(0.3)
        assert not creating.done()
        await switching.commit()
        assert (await creating)["code"] == "sale"
