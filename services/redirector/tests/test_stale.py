"""What is served when the layers behind go away while the process runs."""


def cut(app):
    """Open both breakers, as a run of failures does; their clock stands still.

    A call that began before, such as the one that fills Redis after an answer, may still succeed. It
    must not close a breaker again: the servers are down.
    """
    for breaker in (app.redirector.store.breaker, app.redirector._primary.breaker):
        for _ in range(3):
            breaker.failed()
        breaker.succeeded = lambda: None


async def test_a_cached_link_outlives_its_life_but_not_its_expiry_or_the_bound(run, table, clock):
    await table.link("abc")
    app = await run(l1_stale_if_error_s=100, breaker_open_ms=600_000)
    assert (await app.get("/abc")).status_code == 302
    assert (await app.get("/none")).status_code == 404
    cut(app)
    clock.advance(31)
    assert (await app.get("/abc")).status_code == 302
    assert app.count("local", "stale") == 1
    assert (await app.get("/abc")).status_code == 302  # at once, until the next attempt is due
    assert app.count("local", "stale") == 1
    assert (await app.get("/none")).status_code == 503
    clock.advance(100)
    assert (await app.get("/abc")).status_code == 503


async def test_a_limited_link_fails_closed(run, table):
    await table.link("abc", max_visits=5)
    app = await run(breaker_open_ms=600_000)
    assert (await app.get("/abc")).status_code == 302
    cut(app)
    assert (await app.get("/abc")).status_code == 503
