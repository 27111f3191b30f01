"""A primary that was restored to an earlier state: what it says now is the truth."""

import pytest

from redirector.lookup import repository
from shortcore.links.record import Kind, LinkKey, LinkRecord

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
    await table.rewrite("abc", target="https://old.example/", version=old)
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"  # from memory
    clock.advance(31)
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    assert app.redirector.cache.floor(KEY) == old
    assert app.count("postgres", "outdated") == 0


async def test_a_link_that_the_restored_primary_never_had_is_not_found(edited, table, clock):
    app, _, _ = edited
    await table.remove("abc")
    clock.advance(31)
    assert (await app.get("/abc")).status_code == 404


async def test_a_change_heard_of_and_lost_by_the_primary_leaves_no_link_unavailable(edited, table):
    app, _, new = edited
    app.redirector.cache.invalidate(KEY, new + 1_000)
    for _ in range(2):
        assert (await app.get("/abc")).headers["location"] == "https://new.example/"


@pytest.fixture
def after_the_read(monkeypatch):
    """A function that has something happen once between a read of the primary and its use."""
    find = repository.find_links
    waiting = []

    async def find_then(postgres, keys):
        rows = await find(postgres, keys)
        while waiting:
            await waiting.pop()()
        return rows

    monkeypatch.setattr(repository, "find_links", find_then)
    return waiting.append


async def gone_back(table, version):
    await table.rewrite("abc", target="https://old.example/", version=version)


@pytest.mark.parametrize("newer", [1, 100], ids=["next version", "versions later"])
async def test_a_version_heard_of_during_the_read_is_not_overridden_by_it(
    edited, table, clock, after_the_read, newer
):
    app, old, new = edited
    await gone_back(table, old)
    clock.advance(31)

    async def edit():
        await table.rewrite("abc", target="https://newest.example/", version=new + newer)
        app.redirector.cache.invalidate(KEY, new + newer)

    after_the_read(edit)
    assert (await app.get("/abc")).headers["location"] == "https://newest.example/"
    assert app.count("postgres", "outdated") == 1
    assert app.redirector.cache.floor(KEY) == new + newer


async def test_a_version_of_the_new_history_heard_of_during_the_read_is_not_overridden_by_it(
    edited, table, clock, after_the_read
):
    # After the loss, new versions are below those that were seen before.
    app, old, new = edited
    await gone_back(table, old - 1)
    clock.advance(31)

    async def edit():
        await table.rewrite("abc", target="https://newest.example/", version=old)
        app.redirector.cache.invalidate(KEY, old)

    after_the_read(edit)
    assert old < new
    assert (await app.get("/abc")).headers["location"] == "https://newest.example/"
    assert app.redirector.cache.floor(KEY) == old


async def test_a_link_made_anew_during_the_read_that_missed_it_is_found(
    edited, table, clock, after_the_read
):
    app, old, _ = edited
    await table.remove("abc")
    clock.advance(31)

    async def create():
        await table.link("abc", "https://again.example/", version=old)
        app.redirector.cache.invalidate(KEY, old)

    after_the_read(create)
    assert (await app.get("/abc")).headers["location"] == "https://again.example/"


async def test_a_version_that_another_source_brought_during_the_read_stays(
    edited, table, clock, after_the_read
):
    app, old, new = edited
    await gone_back(table, old)
    clock.advance(31)

    async def bring():
        record = LinkRecord(new + 5, Kind.ACTIVE, target="https://newest.example/")
        app.redirector.cache.put(KEY, record, read_at=clock())

    after_the_read(bring)
    await app.redirector.lookup.find(KEY)
    # The second read began after that version was seen: what it says is the truth.
    assert app.count("postgres", "outdated") == 1
    assert app.redirector.cache.floor(KEY) == old


async def test_nothing_is_kept_of_a_read_that_has_ended(edited, table, clock):
    app, _, _ = edited
    clock.advance(31)
    await app.get("/abc")
    await table.connection.execute("ALTER TABLE links RENAME TO elsewhere")
    clock.advance(31)
    await app.get("/abc")
    assert not app.redirector.cache._followed
