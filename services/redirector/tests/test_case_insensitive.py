"""In a case-insensitive domain every spelling of a code is one link; in any other one it is not."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.stack import Stack
from harness.waiting import until_async

from redirector.links.existence import Existence
from redirector.lookup.repository import DomainRow
from shortcore.links.codes import CodeSpace
from shortcore.links.record import link_key

PRINT = "print.example"
HEADERS = {"host": PRINT}
SECRET = b"0123456789abcdef0123456789abcdef"  # that of the fixtures
SPELLINGS = ("/sale", "/SALE", "/Sale", "/%53ale", "/sALE/", "/SALE?a=1")


@pytest.fixture
async def app(run, table):
    await table.domain(PRINT, case_insensitive=True)
    await table.link("sale", "https://sale.example/", host=PRINT, custom=True)
    await table.link("Exact", "https://exact.example/", custom=True)
    return await run()


@pytest.mark.parametrize("path", SPELLINGS)
async def test_every_spelling_finds_the_link_under_one_key(app, path):
    for _ in range(2):  # a miss, then a hit of the local cache
        response = await app.get(path, headers=HEADERS)
        assert (response.status_code, response.headers["location"]) == (
            302,
            "https://sale.example/",
        )
    assert list(app.redirector.cache.entries) == [link_key(PRINT, "sale")]


async def test_another_domain_keeps_spellings_apart(app):
    assert (await app.get("/Exact")).status_code == 302
    for path in ("/exact", "/EXACT", "/eXACT"):
        assert (await app.get(path)).status_code == 404


async def test_a_letter_that_only_looks_alike_or_folds_to_ascii_is_no_spelling(app):
    for path in ("/\u017fale", "/sa\u013fe", "/s\uff41le", "/%E2%84%AA", "/s%C3%81le"):
        assert (await app.get(path, headers=HEADERS)).status_code == 404


async def test_an_edit_is_seen_in_every_spelling(app, table):
    assert (await app.get("/SALE", headers=HEADERS)).status_code == 302
    version = await table.edit("sale", target="https://new.example/")
    app.redirector.cache.invalidate(link_key(PRINT, "sale"), version)
    for path in SPELLINGS:
        response = await app.get(path, headers=HEADERS)
        assert response.headers["location"] == "https://new.example/"


async def test_during_a_scan_no_spelling_of_a_link_is_refused(app, table, clock):
    codes = CodeSpace(SECRET)
    generated = codes.encode_folded(77)
    await table.link(generated, "https://generated.example/", host=PRINT)
    redirector = app.redirector
    await until_async(lambda: redirector.invalidation.connected, "the change feed is followed")
    await redirector.custom_codes.load()
    redirector.custom_codes.all_told(clock())
    for number in range(150):
        await app.get(f"/madeup{number}x", headers=HEADERS)
    made_up = link_key(PRINT, "neverexisted")
    assert redirector.scan_filter.existence_of(made_up, clock()) is Existence.ABSENT
    before = app.count("codes", "refused")
    assert (await app.get("/NeverExisted", headers=HEADERS)).status_code == 404
    assert app.count("codes", "refused") == before + 1
    for path in SPELLINGS:
        assert (await app.get(path, headers=HEADERS)).status_code == 302
    for path in (f"/{generated}", f"/{generated.upper()}", f"/{generated.title()}?x"):
        response = await app.get(path, headers=HEADERS)
        assert response.headers["location"] == "https://generated.example/"


async def test_a_switch_takes_effect_when_the_table_is_read_again(app, table):
    assert (await app.get("/SALE", headers=HEADERS)).status_code == 302
    await table.edit_domain(PRINT, case_insensitive=False)
    await app.redirector.loader.load()
    assert (await app.get("/SALE", headers=HEADERS)).status_code == 404
    assert (await app.get("/sale", headers=HEADERS)).status_code == 302


async def test_a_code_that_was_unknown_in_capitals_is_found_after_the_switch(app, table, clock):
    await table.edit_domain(PRINT, case_insensitive=False)
    await app.redirector.loader.load()
    assert (await app.get("/SALE", headers=HEADERS)).status_code == 404
    await table.edit_domain(PRINT, case_insensitive=True)
    await app.redirector.loader.load()
    for _ in range(3):  # a cached 404 that is asked for is renewed and would stay
        assert (await app.get("/SALE", headers=HEADERS)).status_code == 302
        clock.advance(4.5)


def test_a_copy_of_the_table_from_the_release_before_can_be_read():
    from redirector.domains.loader import _decoder, _encoder  # noqa: PLC0415

    old = _encoder.encode([["a.example", None, None]])
    assert _decoder.decode(old) == [DomainRow("a.example")]


@pytest.mark.parametrize("server", ["direct", "asgi"])
async def test_both_servers_fold_on_one_connection(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.domain("localhost")
    await table.domain(PRINT, case_insensitive=True)
    await table.link("sale", "https://sale.example/", host=PRINT, custom=True)
    await table.link("rules", "https://rules.example/", host=PRINT, forward_query=True)
    await table.link("sale", "https://exact.example/", host="localhost")
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server)
        connection = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)
        for _ in range(2):
            for host, path, location in (
                (PRINT, "/SALE", "https://sale.example/"),
                (PRINT, "/sale", "https://sale.example/"),
                (PRINT, "/RULES?A=b", "https://rules.example/?A=b"),
                ("localhost", "/sale", "https://exact.example/"),
                ("localhost", "/SALE", None),
            ):
                connection.request("GET", path, headers={"Host": host})
                response = connection.getresponse()
                response.read()
                assert response.getheader("location") == location, (host, path)
        connection.close()
