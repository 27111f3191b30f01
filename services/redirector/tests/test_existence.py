"""A scan costs no lookup in any form of a request, and no link is refused because of it."""

import asyncio
import random
import string

import pytest
from harness.waiting import until_async

from redirector.links.existence import Existence
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkKey, absent

HOST = "go.example"
SECRET = b"0123456789abcdef0123456789abcdef"  # that of the fixtures
OTHER_SECRET = b"another-secret-of-an-older-time!"
FORMS = (
    "/{}",
    "/%{:02X}{}",
    "/{}?x=1",
    "/{}+",
    "/{}/",
    "/{}/a/b?c",
    "/{}-{}",
    "/{}?",
    "/%{:02X}{}+?y",
)


def made_up(number):
    return ["".join(random.choices(string.ascii_letters, k=9)) for _ in range(number)]


def paths(form, codes):
    for code in codes:
        if "%" in form:
            yield form.format(ord(code[0]), code[1:])
        else:
            yield form.format(code, code)


@pytest.fixture
async def scanned(run, clock):
    """A redirector with a trusted filter in the middle of a scan."""
    app = await run(unknown_lookups_per_s=5)
    await trust(app, clock)
    for code in made_up(20):
        assert (await app.get(f"/{code}")).status_code == 404
    return app


async def trust(app, clock):
    await until_async(lambda: app.redirector.invalidation.connected, "the change feed is followed")
    await app.redirector.custom_codes.load()
    app.redirector.custom_codes.all_told(clock())
    assert app.redirector.custom_codes.trusted()


def asked(app):
    return app.count("local", "miss"), app.count("postgres", "negative")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_scan_costs_no_lookup_in_any_form(scanned, form, method):
    before, refused = asked(scanned), scanned.count("codes", "refused")
    for path in paths(form, made_up(50)):
        options = {"data": {"password": "guess"}} if method == "POST" else {}
        assert (await scanned.http.request(method, path, **options)).status_code == 404
    misses = asked(scanned)[0] - before[0]
    assert misses <= 2  # false positives of the filter
    assert scanned.count("codes", "refused") - refused >= 48


@pytest.mark.parametrize("form", FORMS[:-3])
async def test_every_kind_of_link_is_found_during_a_scan(scanned, table, clock, form):
    space = CodeSpace(SECRET)
    codes = {
        space.encode(1): {},  # generated
        space.encode(2): {"custom": True},  # chosen, and it looks like a generated one
        "My-Page_1": {"custom": True},
        "gone": {"custom": True, "deleted": True},
    }
    for number, (code, columns) in enumerate(codes.items()):
        options = columns | {"forward_path": True}
        await table.link(code, "https://target.example", id=number + 1, **options)
    await trust(scanned, clock)
    for code, columns in codes.items():
        (path,) = paths(form, [code])
        want = 410 if "deleted" in columns else 200 if form.endswith("+") else 302
        assert (await scanned.get(path)).status_code == want, path


async def test_a_link_in_the_local_cache_is_served_although_the_filter_does_not_know_it(
    scanned, table, clock
):
    await table.link("Unheard", "https://unheard.example/", custom=True)
    clock.advance(2)  # between two scans
    assert (await scanned.get("/Unheard")).status_code == 302
    scanned.redirector.custom_codes.all_told(clock())
    for code in made_up(20):
        await scanned.get(f"/{code}")
    for path in ("/Unheard", "/Unheard?x", "/%55nheard", "/Unheard+"):
        assert (await scanned.get(path)).status_code in {200, 302}
    clock.advance(31)  # the entry is stale
    scanned.redirector.custom_codes.all_told(clock())
    for code in made_up(20):
        await scanned.get(f"/{code}")
    assert (await scanned.get("/Unheard?x")).status_code == 302


async def test_cached_misses_are_not_renewed_while_a_scan_repeats_them(scanned, clock):
    # Looked up before the scan was noticed, and asked for again when they are stale.
    clock.advance(2)
    codes = made_up(5)
    for code in codes:
        await scanned.get(f"/{code}")
    for seconds in (4.5, 1, 10):
        clock.advance(seconds)
        scanned.redirector.custom_codes.all_told(clock())
        for code in made_up(20):
            await scanned.get(f"/{code}")
        before = asked(scanned)
        for code in codes:
            assert (await scanned.get(f"/{code}")).status_code == 404
        await asyncio.sleep(0.05)
        assert asked(scanned) == before


async def test_a_scan_does_not_lead_unknown_codes_back_to_the_host_that_was_asked(
    run, table, clock
):
    await table.domain(HOST, not_found_target="http://127.0.0.1:8001/lost")
    app = await run(unknown_lookups_per_s=5)
    await trust(app, clock)
    for code in made_up(20):
        assert (await app.get(f"/{code}")).headers["location"] == "http://127.0.0.1:8001/lost"
    before = asked(app)
    [code] = made_up(1)
    response = await app.get(f"/{code}", headers={"host": "127.0.0.1:8001"})
    assert response.status_code == 404
    assert asked(app) == before, "it was looked up"


async def test_without_a_scan_every_code_is_asked_for(run, clock):
    app = await run()
    await trust(app, clock)
    existence_of = app.redirector.scan_filter.existence_of
    assert existence_of(LinkKey(f"{HOST}/never"), clock()) is Existence.UNKNOWN
    assert existence_of(LinkKey(f"{HOST}/never."), clock()) is Existence.INVALID
    assert existence_of(LinkKey(f"{HOST}/" + "a" * 65), clock()) is Existence.INVALID


async def test_during_a_scan_the_decision_names_each_case(scanned, clock):
    existence_of, now = scanned.redirector.scan_filter.existence_of, clock()
    assert existence_of(LinkKey(f"{HOST}/never"), now) is Existence.ABSENT
    assert existence_of(LinkKey(f"{HOST}/ne%20ver"), now) is Existence.INVALID
    assert existence_of(LinkKey(f"{HOST}/" + CodeSpace(SECRET).encode(9)), now) is Existence.UNKNOWN
    assert existence_of(LinkKey("/never"), now) is Existence.UNKNOWN  # the domain is not known
    scanned.redirector.cache.invalidate(LinkKey(f"{HOST}/never"), 7)
    scanned.redirector.cache.put(LinkKey(f"{HOST}/purged"), absent(8), read_at=now)
    assert existence_of(LinkKey(f"{HOST}/purged"), now) is Existence.UNKNOWN


async def test_codes_of_another_secret_switch_the_filter_off(run, table, clock):
    await table.link(CodeSpace(SECRET).encode(1), id=1)
    await table.link("chosen", id=2, custom=True)
    app = await run(unknown_lookups_per_s=1)
    await trust(app, clock)
    old = CodeSpace(OTHER_SECRET).encode(1)
    await table.link(old, "https://old.example/", id=3)
    await app.redirector.custom_codes.load()
    assert not app.redirector.custom_codes.trusted()
    for code in made_up(10):
        await app.get(f"/{code}")
    assert (await app.get(f"/{old}")).status_code == 302
