"""Made-up codes are refused without a lookup; existing codes are never refused."""

import asyncio
import random
import string

import pytest
from harness.waiting import until_async
from hypothesis import given
from hypothesis import strategies as st

from redirector.lookup import custom_codes
from redirector.lookup.custom_codes import Bloom
from shortcore.errors import DatabaseUnavailable
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkKey

HOST = "go.example"
SECRET = b"0123456789abcdef0123456789abcdef"  # that of the fixtures


@given(st.sets(st.text(max_size=64), max_size=500))
def test_a_member_is_never_missed(keys):
    bloom = Bloom(len(keys))
    for key in keys:
        bloom.add(key)
    assert all(bloom.holds(key) for key in keys)


def test_few_strangers_are_taken_for_members():
    bloom = Bloom(20_000)
    for number in range(20_000):
        bloom.add(f"{HOST}/member{number}")
    taken = sum(bloom.holds(f"{HOST}/stranger{number}") for number in range(20_000))
    assert taken < 20_000 / 100


async def scanned(app, codes):
    """Request made-up codes until the budget of lookups is spent; return lookups made after."""
    for code in codes[:20]:
        assert (await app.get(f"/{code}")).status_code == 404
    before = app.count("local", "miss")
    for code in codes[20:]:
        assert (await app.get(f"/{code}")).status_code == 404
    return app.count("local", "miss") - before


async def followed(app):
    """Return what the redirector knows of custom codes, once it follows the feed."""
    await until_async(lambda: app.redirector.invalidation.connected, "the change feed is followed")
    return app.redirector.custom_codes


def made_up(number):
    return ["".join(random.choices(string.ascii_letters, k=9)) for _ in range(number)]


async def test_a_scan_costs_no_look_up_and_custom_codes_are_found_all_the_while(run, table, clock):
    await table.link("Promo", "https://promo.example/", custom=True)
    app = await run(unknown_lookups_per_s=5)
    known = await followed(app)
    await known.load()
    known.all_told(clock())
    assert await scanned(app, made_up(200)) <= 2
    assert app.count("codes", "refused") > 150
    assert (await app.get("/Promo")).headers["location"] == "https://promo.example/"
    # A code that is created now arrives by the feed.
    await table.link("Later", "https://later.example/", custom=True, id=2)
    known.note(LinkKey(f"{HOST}/Later"))
    assert (await app.get("/Later")).headers["location"] == "https://later.example/"


async def test_only_a_scan_meets_the_filter_and_for_as_long_as_it_goes_on(run, clock):
    app = await run(unknown_lookups_per_s=5)
    known = await followed(app)
    await known.load()

    async def looked_up(number):
        known.all_told(clock())
        before = app.count("local", "miss")
        for code in made_up(number):
            assert (await app.get(f"/{code}")).status_code == 404
        return app.count("local", "miss") - before

    for _ in range(3):
        assert await looked_up(5) == 5
        clock.advance(1.1)
    assert await looked_up(100) <= 8
    clock.advance(0.5)
    assert await looked_up(100) <= 2  # it goes on: nothing is looked up any more
    clock.advance(0.9)
    assert await looked_up(100) <= 2
    clock.advance(1.1)
    assert await looked_up(5) == 5


async def away(_most):
    raise DatabaseUnavailable("PostgreSQL does not answer")


async def test_without_word_that_all_is_told_every_code_is_looked_up(run, table, clock):
    app = await run(unknown_lookups_per_s=5)
    known = await followed(app)
    await known.load()
    assert await scanned(app, made_up(60)) == 40
    known.all_told(clock())
    assert await scanned(app, made_up(60)) <= 1
    clock.advance(6)
    assert await scanned(app, made_up(60)) == 40
    known.all_told(clock() - 6)  # received after a cut, sent before it
    assert await scanned(app, made_up(60)) == 40
    known.all_told(clock())
    known._count = away  # otherwise the filter may be read again before the scan
    known.distrust()
    assert await scanned(app, made_up(60)) == 40


async def test_a_code_told_while_the_codes_are_read_is_known_after(run, table):
    app = await run()
    known = await followed(app)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield [LinkKey(f"{HOST}/first")]
        reading.set()
        await go_on.wait()

    known._read = slowly
    loading = asyncio.create_task(known.load())
    await reading.wait()
    known.note(LinkKey(f"{HOST}/meanwhile"))
    go_on.set()
    await loading
    assert known.holds(f"{HOST}/first")
    assert known.holds(f"{HOST}/meanwhile")


async def test_changes_lost_while_the_codes_are_read_make_them_be_read_again(run, table, clock):
    await table.link("Promo", custom=True)
    app = await run()
    known = await followed(app)
    reading, go_on = asyncio.Event(), asyncio.Event()
    read = known._read

    async def slowly():
        async for batch in read():
            yield batch
        reading.set()
        await go_on.wait()

    known._read = slowly
    loading = asyncio.create_task(known.load())
    await reading.wait()
    # Created after the reader passed its place, and its feed entry was lost.
    await table.link("Lost", custom=True, id=2)
    known.distrust()
    go_on.set()
    await loading
    known.all_told(clock())
    assert not known.trusted()
    await known.load()
    assert known.trusted()
    assert known.holds(f"{HOST}/Lost")


async def test_with_more_custom_codes_than_it_may_know_it_looks_up(run, table, clock):
    for number in range(3):
        await table.link(f"code{number}", custom=True, id=number)
    app = await run(custom_codes_max=2, unknown_lookups_per_s=5)
    known = await followed(app)
    await known.load()
    known.all_told(clock())
    assert not known.trusted()


async def test_a_generated_code_never_enters_the_filter(run, table, clock):
    space = CodeSpace(SECRET)
    await table.link(space.encode(7), custom=True)  # chosen, and it looks generated
    app = await run()
    known = await followed(app)
    await known.load()
    known.all_told(clock())
    for id_ in range(20_000):
        known.note(LinkKey(f"{HOST}/{space.encode(id_)}"))
    assert len(known) == 0
    assert known.false_positive_ratio == 0
    assert known.trusted()


async def test_a_filter_that_is_too_full_serves_until_the_next_is_read(run, table, clock):
    app = await run()
    known = await followed(app)
    await known.load()
    known.all_told(clock())
    await table.link("stored", custom=True)
    keys = [LinkKey(f"{HOST}/custom-{number}") for number in range(10_000)]
    for key in keys:
        known.note(key)
    assert known.trusted()
    assert all(known.holds(key) for key in keys)
    full = known.false_positive_ratio
    await known.load()
    assert known.trusted()
    # Those in the table, and those that came by the feed since the first one was full.
    assert known.holds(f"{HOST}/stored")
    assert all(known.holds(key) for key in keys[5_000:])
    assert known.false_positive_ratio < full


async def test_a_code_announced_before_the_read_and_committed_after_its_start_is_known(
    run, table, clock, monkeypatch
):
    monkeypatch.setattr(custom_codes, "EVERY_S", 0.01)
    app = await run()
    known = await followed(app)
    known._pause_s = 0.01
    task = asyncio.create_task(known.run())
    known.distrust()  # what was announced until now is noted no more
    known.all_told(clock())
    await asyncio.sleep(0.1)
    assert not known.loaded  # a writer may still be committing it
    await table.link("Announced", custom=True)
    clock.advance(custom_codes.SETTLED_S)
    known.all_told(clock())
    await until_async(lambda: known.loaded, "the custom codes are loaded")
    assert known.holds(f"{HOST}/Announced")
    task.cancel()


async def test_more_announced_codes_than_may_be_known_are_a_loss(run, clock):
    app = await run(custom_codes_max=10)
    known = await followed(app)
    known.all_told(clock())
    for number in range(100_000):
        known.note(LinkKey(f"{HOST}/custom-{number}"))
    assert len(known._noted) <= known._bloom.room


@pytest.mark.parametrize("codes", [1_000, 30_000])
def test_the_false_positive_ratio_is_what_is_measured(codes):
    bloom = Bloom(0)
    for number in range(codes):
        bloom.add(f"{HOST}/member{number}")
    taken = sum(bloom.holds(f"{HOST}/stranger{number}") for number in range(50_000)) / 50_000
    assert taken == pytest.approx(bloom.false_positive_ratio, rel=0.25, abs=0.0005)
