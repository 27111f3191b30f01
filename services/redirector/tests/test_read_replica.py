"""What a read replica may answer alone, and when the primary is asked.

Two databases stand for the two: what one has not got yet is then exactly known. The real
streaming replica is in tests/faults/test_replica.py.
"""

import asyncio

import pytest
from harness.tables import open_table
from harness.waiting import until_async

from redirector.container import REPLICA_MISSES_PER_S
from shortcore.links.record import LinkKey

NO_REDIS = "redis://127.0.0.1:1"


@pytest.fixture
async def behind(databases, table):
    """The URL of the replica, and a Table of what it has."""
    with databases.fresh() as url:
        async with open_table(url) as replica:
            yield url, replica


async def test_a_scan_of_made_up_codes_reaches_the_primary_within_its_budget(run, behind):
    app = await run(postgres_read_url=behind[0], redis_url=NO_REDIS)
    responses = await asyncio.gather(*(app.get(f"/scan{n}") for n in range(200)))
    assert {response.status_code for response in responses} == {404}
    assert app.count("replica", "miss") == 200
    assert app.count("postgres", "negative") == REPLICA_MISSES_PER_S


async def test_the_budget_comes_back_with_time(run, behind, table, clock):
    app = await run(postgres_read_url=behind[0], redis_url=NO_REDIS)
    await table.link("abc")
    await asyncio.gather(*(app.get(f"/scan{n}") for n in range(REPLICA_MISSES_PER_S)))
    assert (await app.get("/abc")).status_code == 404  # the replica's word, for a few seconds
    clock.advance(6)
    assert (await app.get("/abc")).status_code == 302


async def test_a_replica_that_has_the_link_keeps_the_primary_out_of_it(run, behind, table):
    url, replica = behind
    await table.link("abc")
    await replica.link("abc", "https://replica.example/")
    app = await run(postgres_read_url=url, redis_url=NO_REDIS)
    assert (await app.get("/abc")).headers["location"] == "https://replica.example/"
    assert (app.count("replica", "hit"), app.count("postgres", "hit")) == (1, 0)


async def test_an_older_version_than_was_heard_of_is_asked_of_the_primary(run, behind, table):
    url, replica = behind
    await table.link("abc")
    new = await table.edit("abc", target="https://new.example/")
    await replica.link("abc", "https://old.example/")
    app = await run(postgres_read_url=url, redis_url=NO_REDIS)
    app.redirector.cache.invalidate(LinkKey("go.example/abc"), new)
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"
    assert (app.count("replica", "outdated"), app.count("postgres", "hit")) == (1, 1)


async def test_visits_are_counted_on_the_primary_only(run, behind, table):
    url, replica = behind
    await table.link("abc", max_visits=1)
    await replica.link("abc", max_visits=1)
    app = await run(postgres_read_url=url, redis_url=NO_REDIS)
    statuses = [(await app.get("/abc")).status_code for _ in range(2)]
    assert statuses == [302, 410]
    assert await table.visits("abc") == 1
    assert await replica.visits("abc") == 0


async def test_a_domain_just_added_is_known_though_the_replica_lags(run, behind, table):
    url, _ = behind
    app = await run(postgres_read_url=url, redis_url=NO_REDIS)
    await table.link("abc", "https://target.example/", host="new.example")
    app.redirector.loader.wake()
    await until_async(lambda: len(app.redirector.domains) == 2, "the new domain is known")
    response = await app.get("/abc", headers={"host": "new.example"})
    assert response.headers["location"] == "https://target.example/"


async def test_without_primary_and_redis_the_replica_tells_the_domains(run, behind):
    url, replica = behind
    await replica.domain("other.example", default_target="https://home.example/")
    not_found_entry = "postgresql://x@127.0.0.1:1/x"
    app = await run(postgres_url=not_found_entry, postgres_read_url=url, redis_url=NO_REDIS)
    response = await app.get("/", headers={"host": "other.example"})
    assert response.headers["location"] == "https://home.example/"


async def test_a_replica_that_is_away_costs_no_link(run, table):
    await table.link("abc")
    app = await run(postgres_read_url="postgresql://x@127.0.0.1:1/x", redis_url=NO_REDIS)
    assert (await app.get("/abc")).status_code == 302
    assert (await app.get("/nobody")).status_code == 404
    assert app.count("replica", "error") == 2


async def test_a_look_up_begun_while_the_batch_of_the_one_before_still_waits_is_not_cut_short(
    run, behind, table
):
    url, replica = behind
    await table.link("abc")
    await replica.link("abc")
    app = await run(postgres_read_url=url, redis_url=NO_REDIS)
    # One batch: the replica knows the first, and the primary is asked for the second.
    unknown = asyncio.ensure_future(app.get("/nobody"))
    assert (await app.get("/abc")).status_code == 302
    app.redirector.cache.invalidate(LinkKey("go.example/abc"), 1_000)
    assert (await app.get("/abc")).status_code == 302
    assert (await unknown).status_code == 404
    assert app.count("local", "unavailable") == 0
