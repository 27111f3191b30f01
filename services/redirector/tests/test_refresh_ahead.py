"""A link in use is looked up again before its TTL ends, and no visitor waits for the lookup."""

from harness.proxy import Mode, Proxy
from harness.waiting import until_async


async def settled(app):
    await until_async(lambda: not len(app.redirector.lookup), "all lookups have ended")


def looked_up(app):
    return app.count("redis", "hit") + app.count("postgres", "hit")


async def test_a_hit_near_the_end_renews_the_link_once_and_the_next_life_begins(run, table, clock):
    await table.link("abc")
    app = await run(l1_ttl_s=30, l1_refresh_ahead=0.75)
    assert (await app.get("/abc")).status_code == 302
    clock.advance(22)
    assert (await app.get("/abc")).status_code == 302
    await settled(app)
    assert looked_up(app) == 1, "too early"
    clock.advance(1)
    for _ in range(50):
        assert (await app.get("/abc")).status_code == 302
    await settled(app)
    assert looked_up(app) == 2
    clock.advance(15)  # 38 s after the first read, 15 s after the second
    assert (await app.get("/abc")).status_code == 302
    assert (looked_up(app), app.count("local", "miss")) == (2, 1)


async def test_a_link_that_nobody_asked_for_near_its_end_is_looked_up_by_the_next_request(
    run, table, clock
):
    await table.link("abc")
    app = await run(l1_ttl_s=30, l1_refresh_ahead=0.75)
    assert (await app.get("/abc")).status_code == 302
    clock.advance(30)
    assert (await app.get("/abc")).status_code == 302
    assert (looked_up(app), app.count("local", "miss")) == (2, 2)


async def test_the_request_that_starts_a_renewal_is_answered_while_the_servers_are_silent(
    run, table, clock, database_url, redis_url
):
    await table.link("abc")
    with Proxy(database_url) as postgres, Proxy(redis_url) as redis:
        app = await run(postgres_url=postgres.url, redis_url=redis.url, l1_ttl_s=30)
        assert (await app.get("/abc")).status_code == 302
        for wire in (postgres, redis):
            wire.set(Mode.BLACK_HOLE)
        clock.advance(29)
        assert (await app.get("/abc")).status_code == 302
        assert len(app.redirector.lookup) == 1, "it waited for its own renewal"
        assert app.count("local", "stale") == 0


async def test_a_renewal_brings_an_edit_that_no_feed_announced(run, table, clock, redis_url):
    await table.link("abc", "https://old.example/")
    app = await run(redis_url="redis://127.0.0.1:1", l1_ttl_s=30)
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    await table.edit("abc", target="https://new.example/")
    clock.advance(23)
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    await settled(app)
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"
    assert app.count("local", "miss") == 1
