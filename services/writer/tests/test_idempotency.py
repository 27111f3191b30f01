"""A request that is sent twice is processed once and gets the same response."""

import asyncio

import pytest

from writer.http.idempotency import purge

LINKS, BATCH = "/api/v1/links", "/api/v1/links:batch"
LINK = {"target": "https://example.com/"}
BODIES = {LINKS: LINK, BATCH: {"items": [LINK, LINK, {"target": "no url"}]}}


async def post(api, path, body, key):
    return await api.client.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("path", [LINKS, BATCH])
async def test_a_repeated_request_gets_the_first_response_and_changes_nothing(api, path):
    first = await post(api, path, BODIES[path], "k")
    count = await api.fetch("SELECT count(*) FROM links")
    again = await post(api, path, BODIES[path], "k")
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    for name in ("location", "etag"):
        assert again.headers.get(name) == first.headers.get(name)
    assert await api.fetch("SELECT count(*) FROM links") == count


@pytest.mark.parametrize("path", [LINKS, BATCH])
async def test_of_concurrent_equal_requests_one_is_processed_and_all_get_its_response(api, path):
    answers = await asyncio.gather(*(post(api, path, BODIES[path], "k") for _ in range(6)))
    assert len({each.content for each in answers}) == 1
    assert sum("idempotency-replayed" in each.headers for each in answers) == 5
    made = {LINKS: 1, BATCH: 2}[path]
    assert await api.fetch("SELECT count(*) FROM links") == made


async def test_a_key_used_with_another_request_is_rejected(api):
    await post(api, LINKS, LINK, "k")
    for path, body in ((LINKS, {"target": "https://other.test/"}), (BATCH, BODIES[BATCH])):
        answer = await post(api, path, body, "k")
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:shortlinks:problem:idempotency-key-reused"
    assert await api.fetch("SELECT count(*) FROM links") == 1


async def test_two_callers_can_use_the_same_idempotency_key(api):
    await post(api, LINKS, LINK, "k")
    other = (await api.client.post("/api/v1/keys", json={"name": "other"})).json()["key"]
    answer = await api.client.post(
        LINKS,
        json={"target": "https://other.test/"},
        headers={"Idempotency-Key": "k", "Authorization": f"Bearer {other}"},
    )
    assert answer.status_code == 201


async def test_a_failed_request_can_be_retried_with_its_key(api):
    await api.create(code="mine")
    body = LINK | {"code": "mine"}
    assert (await post(api, LINKS, body, "k")).status_code == 409
    await api.client.delete("/api/v1/links/go.test/mine")
    await api.client.delete("/api/v1/links/go.test/mine", params={"purge": True})
    answer = await post(api, LINKS, body, "k")
    assert answer.status_code == 201
    assert "idempotency-replayed" not in answer.headers


async def test_a_repeated_request_gets_its_response_although_it_is_no_longer_valid(api):
    body = LINK | {"expires_at": "2040-01-01T00:00:00Z"}
    first = await post(api, LINKS, body, "k")
    api.clock.advance_to(api.clock.now().replace(year=2041))
    again = await post(api, LINKS, body, "k")
    assert (again.status_code, again.content) == (201, first.content)


async def test_a_crash_between_commit_and_response_loses_no_response(settings, opened):
    class Crash(Exception):
        pass

    async with opened(settings) as api:

        async def crash(*_: object) -> None:
            raise Crash

        # Publishing comes right after the commit, so this is a crash between commit and response.
        api.container.publisher.publish_new = crash
        failed = await post(api, LINKS, LINK, "k")
        assert failed.status_code == 500
        key = api.key
    async with opened(settings) as after:
        answer = await after.client.post(
            LINKS,
            json=LINK,
            headers={"Idempotency-Key": "k", "Authorization": f"Bearer {key}"},
        )
        assert answer.status_code == 201
        assert answer.headers["idempotency-replayed"] == "true"
        assert await after.fetch("SELECT count(*) FROM links") == 1
        assert answer.json()["code"] == await after.fetch("SELECT code FROM links")


async def test_a_key_in_progress_is_a_409_after_a_wait_and_works_later(api):
    async with api.container.postgres.connection(10_000) as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(
            "INSERT INTO idempotency (key_id, idempotency_key, request_hash) VALUES (1, 'k', '')"
        )
        answer = await post(api, LINKS, LINK, "k")
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:shortlinks:problem:request-in-flight"
        assert answer.headers["retry-after"] == "1"
        await transaction.rollback()
    assert (await post(api, LINKS, LINK, "k")).status_code == 201


async def test_an_idempotency_key_expires_after_its_ttl(settings, opened):
    brief = settings.model_copy(update={"idempotency_ttl_s": 60})
    async with opened(brief) as api:
        first = await post(api, LINKS, LINK, "k")
        await api.fetch("UPDATE idempotency SET created_at = now() - interval '61 s' RETURNING 1")
        second = await post(api, LINKS, LINK, "k")
        assert second.status_code == 201
        assert second.json()["code"] != first.json()["code"]
        assert (await post(api, LINKS, LINK, "k")).content == second.content
        await post(api, LINKS, LINK, "young")
        await api.fetch(
            "UPDATE idempotency SET created_at = now() - interval '61 s' "
            "WHERE idempotency_key = 'k' RETURNING 1"
        )
        await purge(api.container.postgres, 60)
        assert (
            await api.fetch("SELECT string_agg(idempotency_key, ' ') FROM idempotency") == "young"
        )


async def test_purging_many_keys_may_take_longer_than_the_statement_timeout(settings, opened):
    brief = settings.model_copy(update={"postgres_timeout_ms": 2000})
    async with opened(brief) as api:
        for statement in (
            (
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
                " AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$"
            ),
            "CREATE TRIGGER slow AFTER DELETE ON idempotency EXECUTE FUNCTION slow()",
            (
                "INSERT INTO idempotency (key_id, idempotency_key, request_hash, created_at)"
                " SELECT 1, n::text, '', now() - interval '1 h' FROM generate_series(1, 4500) AS n"
            ),
        ):
            await api.fetch(statement)
        await purge(api.container.postgres, 60)  # five statements of half a second
        assert await api.fetch("SELECT count(*) FROM idempotency") == 0


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "é", "a\tb"])
async def test_a_key_that_is_too_long_or_not_printable_is_rejected(api, key):
    answer = await api.client.post(LINKS, json=LINK, headers={b"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:shortlinks:problem:malformed-request"
