"""A primary that was restored to an earlier state: what it says now is the truth."""

import pytest

from shortcore.links import LinkKey

KEY = LinkKey("go.example/abc")


@pytest.fixture
async def edited(run, table):
    """A redirector that has served the newer of two versions, over a primary that lost it."""
    old = await table.link("abc", "https://old.example/")
    new = await table.edit("abc", target="https://new.example/")
    # Without Redis: what a cache keeps of the lost time is another matter.
    app = await run(redis_url="redis://127.0.0.1:1", l1_ttl_s=30)
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"
    return app, old, new


async def test_the_older_version_is_served_as_soon_as_the_primary_is_asked(edited, table, clock):
    app, old, _ = edited
    await table.connection.execute(
        "UPDATE links SET target = 'https://old.example/', version = $1", old
    )
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"  # from memory
    clock.advance(31)
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    assert app.redirector.cache.floor(KEY) == old
    assert app.count("postgres", "outdated") == 0


async def test_a_link_that_the_restored_primary_never_had_is_not_found(edited, table, clock):
    app, _, _ = edited
    await table.connection.execute("DELETE FROM links")
    clock.advance(31)
    assert (await app.get("/abc")).status_code == 404


async def test_a_change_heard_of_and_lost_by_the_primary_leaves_no_link_unavailable(edited, table):
    app, _, new = edited
    app.redirector.cache.invalidate(KEY, new + 1_000)
    for _ in range(2):
        assert (await app.get("/abc")).headers["location"] == "https://new.example/"
