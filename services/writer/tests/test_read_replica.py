"""Reads from a real streaming replica, its lag, and its failure."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.databases import in_thread
from harness.replica import make_replica, pause_replay, resume_replay, wait_caught_up
from harness.servers import FAST
from pydantic import SecretStr

from shortctl.embedded import EmbeddedPostgres
from writer.migrations import upgrade

HERE = "/api/v1/links"


@pytest.fixture
def primary(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(server_folder / "primary", options=FAST)
    server.start()
    in_thread(lambda: upgrade(server.url))
    yield server
    if server.running:
        server.kill()


@pytest.fixture
def replica(primary: EmbeddedPostgres, server_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = make_replica(primary, server_folder / "replica")
    yield server
    if server.running:
        server.kill()


@pytest.fixture
async def api(opened, settings, primary, replica):
    urls = {
        "postgres_url": SecretStr(primary.url),
        "postgres_read_url": SecretStr(replica.url),
        "breaker_failures": 2,
    }
    async with opened(settings.model_copy(update=urls)) as api:
        yield api


@contextlib.contextmanager
def lagging(primary, replica):
    """Pause the replay of the replica at the current state of the primary."""
    wait_caught_up(primary, replica)
    pause_replay(replica)
    yield
    resume_replay(replica)


async def titles(api):
    answer = await api.client.get(HERE)
    assert answer.status_code == 200, answer.text
    return {link["code"]: link["title"] for link in answer.json()["items"]}


async def test_a_single_link_is_never_older_than_the_last_etag_although_the_replica_lags(
    api, primary, replica
):
    old = await api.create(code="old", title="before")
    with lagging(primary, replica):
        new = await api.create(code="new")
        edited = await api.client.patch(old["self"], json={"title": "after"})
        for path, etag in ((old["self"], edited.headers["etag"]), (new["self"], None)):
            answer = await api.client.get(path)
            assert answer.status_code == 200
            assert answer.headers["etag"] == etag or etag is None
        assert (await api.client.delete(old["self"])).status_code == 204
        assert (await api.client.get(old["self"])).json()["status"] == "deleted"


async def test_a_single_domain_is_never_older_than_the_last_etag(api, primary, replica):
    with lagging(primary, replica):
        made = await api.client.post("/api/v1/domains", json={"host": "new.test"})
        path = made.json()["self"]
        answer = await api.client.get(path)
        assert (answer.status_code, answer.headers["etag"]) == (200, made.headers["etag"])


async def test_lists_are_read_from_the_replica_and_catch_up_with_it(api, primary, replica):
    await api.create(code="old", title="before", tags=["one"])
    with lagging(primary, replica):
        await api.create(code="new", tags=["one"])
        await api.client.patch(f"{HERE}/go.test/old", json={"title": "after"})
        await api.client.post("/api/v1/domains", json={"host": "new.test"})
        assert await titles(api) == {"old": "before"}
        assert (await api.client.get("/api/v1/tags")).json()["items"] == [
            {"tag": "one", "links": 1}
        ]
        domains = (await api.client.get("/api/v1/domains")).json()["items"]
        assert [domain["host"] for domain in domains] == ["go.test"]
        # A domain that the list does not show yet can be used: a create reads the primary.
        await api.create(domain="new.test")
        again = await api.client.post(HERE, json={"target": "https://example.com/", "code": "new"})
        assert again.status_code == 409
    wait_caught_up(primary, replica)
    assert (await titles(api)).keys() >= {"old", "new"}
    assert (await titles(api))["old"] == "after"
    assert api.container.reads.fallbacks_total == 0


async def test_lists_are_read_from_the_primary_while_the_replica_is_down(api, replica):
    await api.create(code="abc", tags=["one"])
    replica.kill()
    for _ in range(4):
        assert await titles(api) == {"abc": None}
    assert (await api.client.get("/api/v1/tags")).json()["items"] == [{"tag": "one", "links": 1}]
    assert (await api.client.get("/api/v1/domains")).status_code == 200
    assert api.container.reads.fallbacks_total == 6
    assert not api.container.replica.check().ok
    assert api.container.postgres.check().ok


async def test_a_list_query_that_the_replica_refuses_runs_on_the_primary(api, primary, replica):
    await api.create(code="abc")
    with lagging(primary, replica):
        # As in an upgrade: the new version reads a table that the replica does not have yet.
        async with api.container.postgres.connection() as connection:
            await connection.execute("CREATE TABLE later AS SELECT 42 AS answer")
        assert await api.container.reads.read(_read_later) == 42
    assert api.container.reads.fallbacks_total == 1


async def _read_later(connection):
    return await connection.fetchval("SELECT answer FROM later")


async def test_a_single_link_is_unavailable_without_the_primary_although_the_replica_has_it(
    api, primary, replica
):
    link = await api.create(code="abc")
    wait_caught_up(primary, replica)
    assert await titles(api) == {"abc": None}  # which also has the key remembered
    primary.kill()
    answer = await api.client.get(link["self"])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
