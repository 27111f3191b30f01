"""Where the table of domains comes from, and what is answered before there is one."""

import pytest
from harness.waiting import until_async

from shortcore.cache.keys import CacheKeys
from shortcore.storage.redis import open_redis

NOWHERE = "postgresql://x@127.0.0.1:1/x"
OTHER = {"host": "other.example"}


async def test_a_redirector_that_starts_without_postgresql_knows_the_domains_from_redis(run, table):
    await table.domain("other.example", default_target="https://home.example/",
                       not_found_target="https://lost.example/")  # fmt: skip
    await table.link("abc", "https://own.example/", host="other.example")
    before = await run()
    assert (await before.get("/abc", headers=OTHER)).status_code == 302  # also fills Redis
    await before.redirector.close()

    app = await run(postgres_url=NOWHERE)
    assert len(app.redirector.domains) == len(before.redirector.domains)
    assert (await app.get("/", headers=OTHER)).headers["location"] == "https://home.example/"
    assert (await app.get("/abc", headers=OTHER)).headers["location"] == "https://own.example/"
    # Whether it exists cannot be known now, so it does not lead to the not-found target either.
    assert (await app.get("/nobody", headers=OTHER)).status_code == 503


async def test_before_the_domains_are_known_no_host_gets_the_links_of_another(
    run, table, redis_url, redis_prefix
):
    await table.domain("other.example")
    await table.link("abc", "https://default.example/")
    before = await run()
    assert (await before.get("/abc")).status_code == 302
    assert (await before.get("/abc", headers=OTHER)).status_code == 404
    await until_filled(before)
    await before.redirector.close()
    client = open_redis(redis_url, timeout_ms=1000, pool_size=1, application="test")
    assert await client.delete(CacheKeys(redis_prefix).domains)
    await client.aclose()

    app = await run(postgres_url=NOWHERE)
    response = await app.get("/abc", headers=OTHER)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert (await app.get("/abc")).headers["location"] == "https://default.example/"


async def until_filled(app):
    await until_async(lambda: app.count("fill", "offered"), "the link was offered to Redis")


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"not msgpack", b"\x91\x93\x01\x02\x03"])
async def test_a_copy_that_cannot_be_read_is_no_copy(run, redis_url, redis_prefix, rubbish):
    client = open_redis(redis_url, timeout_ms=1000, pool_size=1, application="test")
    await client.set(CacheKeys(redis_prefix).domains, rubbish)
    await client.aclose()
    app = await run(postgres_url=NOWHERE)
    assert (await app.get("/", headers=OTHER)).status_code == 200
    assert (await app.get("/abc", headers=OTHER)).status_code == 503


async def test_the_table_wins_over_the_copy(run, table):
    await table.domain("other.example", default_target="https://old.example/")
    await (await run()).redirector.close()
    await table.edit_domain("other.example", default_target="https://new.example/")
    app = await run()
    assert (await app.get("/", headers=OTHER)).headers["location"] == "https://new.example/"
