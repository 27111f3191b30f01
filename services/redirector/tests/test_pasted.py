"""Short URLs that were copied with something behind them lead where they were meant to lead."""

import http.client
import random
import time
from pathlib import Path

import pytest
from harness.stack import Stack
from harness.waiting import until_async

from redirector.rules.pasted import MAX_JUNK, Pasted, clean_path
from redirector.rules.paths import read_path
from shortcore.links.record import link_key

TARGET = "https://target.example/"
JUNK = (
    ".", ",", ")", "%20", "%E2%80%8B", "//", "...", "%C2%A0", "%0A", "%22", "'", "%3E", "]", "*",
    "!", ";", ":", "%E2%80%A6", "%E3%80%82", "%EF%BB%BF", "=", "%", "%5C", ".)%20", "&", ".&a=b",
    "./", "%E2%80%9D%2C",
)  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        ("/code.", "/code", ""),
        ("//code", "/code", ""),
        ("///code//", "/code", ""),
        ("/code&utm_source=x", "/code", "utm_source=x"),
        ("/code&amp;a=1&b=https://c/d", "/code", "a=1&b=https://c/d"),
        ("/code).&a=1", "/code", "a=1"),
        ("/%41b.", "/Ab", ""),
        ("//code/a/b.", "/code/a/b.", ""),
        ("/code+.", "/code+", ""),
        ("/-_.", "/-_", ""),
    ],
)
def test_what_was_meant(raw, path, query):
    assert clean_path(raw) == Pasted(path, query, repeated=False)


def test_a_repeated_slash_is_marked():
    assert clean_path("/code//") == Pasted("/code", "", repeated=True)


@pytest.mark.parametrize(
    "raw",
    [
        "/", "//", "///", "", "/code", "/code/", "/code+", "/code/x.", "/code/a&b", "/a.b", "/.",
        "/robots.txt", "/favicon.ico", "/.env", "/wp-login.php", "/code%2F", "/code%2F.",
        "/%2Fcode", "//evil.example/code", "/c%6Fde", "/caf\u00e9.", "/\uff43ode", "/c\u043ede.",
        "/code\u4e2d", "/code%FF", "/co.de.", "/" + "a" * 65 + ".", "/code" + "." * (MAX_JUNK + 1),
        "/code" + "%E2%80%8B" * 900, "/code" + "." * 8192, "/code..%2F..%2Fetc", "/code/../x.",
    ],
)  # fmt: skip
def test_what_is_no_pasted_url(raw):
    assert clean_path(raw) is None


def test_no_path_that_names_a_code_is_changed_and_no_path_takes_long():
    pieces = ["/", "//", "a", "B-_", ".", "%20", "%2F", "%", "&", "+", "\u200b", "\u00e9", "=", "?"]
    chosen = random.Random(3)
    for _ in range(20_000):
        raw = "/" + "".join(chosen.choices(pieces, k=chosen.randrange(12)))
        pasted, asked = clean_path(raw), read_path(raw)
        if pasted is None:
            continue
        meant = read_path(pasted.path)
        assert meant is not None
        # A path that is a code without cleaning keeps that code.
        assert asked is None or (pasted.repeated and asked.code == meant.code)
    for raw in ("/" + "." * 60_000, "/a" + "&" * 60_000, "/" * 60_000, "/a" + "%2E" * 20_000):
        began = time.process_time()
        clean_path(raw)
        assert time.process_time() - began < 0.005


@pytest.fixture
async def app(run, table):
    await table.link("code", TARGET, redirect_status=301)
    await table.link("query", "https://query.example/?own=1", forward_query=True)
    await table.link("path", "https://path.example/p", forward_path=True, redirect_status=301)
    await table.link("limited", "https://limited.example/", max_visits=1)
    await table.link("gone", deleted=True)
    return await run()


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_junk_behind_a_code_is_removed_and_nobody_may_keep_the_answer(app, junk, method):
    for _ in range(2):
        response = await app.http.request(method, f"/code{junk}")
        assert (response.status_code, response.headers["location"]) == (302, TARGET)
        assert response.headers["cache-control"] == "no-store"
    counts = app.redirector.counts
    assert counts.values[counts.response("cleaned", 302)] == 2
    assert app.count("postgres", "hit") == 1  # one lookup, of the clean code
    assert list(app.redirector.cache.entries) == [link_key("go.example", "code")]


async def test_a_leading_slash_is_removed(app):
    for path in ("//code", "///code."):
        response = await app.get(f"http://go.example{path}")
        assert (response.status_code, response.headers["location"]) == (302, TARGET)


async def test_a_query_without_its_question_mark_is_forwarded_as_the_link_says(app):
    response = await app.get("/query&utm_source=x?b=2")
    assert response.headers["location"] == "https://query.example/?own=1&utm_source=x&b=2"
    assert (await app.get("/code&utm_source=x")).headers["location"] == TARGET
    evil = await app.get("/query&a=%0d%0aSet-Cookie:x")
    assert evil.headers["location"] == "https://query.example/?own=1&a=%0d%0aSet-Cookie:x"
    assert (await app.get("/query&" + "a" * 8193)).status_code == 414


async def test_what_a_link_takes_as_it_is_stays_as_it_is(app):
    response = await app.get("/path//")
    assert (response.status_code, response.headers["location"]) == (301, "https://path.example/p//")
    response = await app.get("/path/a&b.")
    assert response.headers["location"] == "https://path.example/p/a&b."
    assert (await app.get("/code")).status_code == 301


async def test_the_rules_of_the_clean_code_hold(app):
    assert (await app.get("/gone.")).status_code == 410
    assert (await app.get("/limited,")).status_code == 302
    assert (await app.get("/limited,")).status_code == 410
    response = await app.get("/code+.")
    assert response.status_code == 200  # the preview
    assert (await app.http.request("POST", "/code.", content=b"a=b")).status_code == 405


async def test_a_link_that_redirects_other_methods_keeps_the_method(run, table):
    await table.link("hook", "https://hook.example/", redirect_status=308)
    app = await run()
    response = await app.http.request("POST", "/hook.", content=b"a=b")
    assert (response.status_code, response.headers["cache-control"]) == (307, "no-store")
    assert response.headers["location"] == "https://hook.example/"
    assert (await app.get("/hook.")).status_code == 302


async def test_an_unknown_code_with_junk_is_looked_up_once_and_a_path_without_a_code_never(app):
    for _ in range(2):
        for junk in (".", "//", "&a=b", "%20"):
            assert (await app.get(f"/unknown{junk}")).status_code == 404
    assert app.count("postgres", "negative") == 1
    before = app.count("local", "miss")
    for path in ("/a.b", "/x" + "." * 8000, "/x%2F", "/wp-login.php", "//evil.example"):
        assert (await app.get(f"http://go.example{path}")).status_code == 404
    assert app.count("local", "miss") == before


async def test_an_unknown_code_with_junk_leads_where_the_domain_says(run, table):
    await table.domain(not_found_target="https://lost.example/")
    app = await run()
    response = await app.get("/unknown.")
    assert response.headers["location"] == "https://lost.example/"
    assert response.headers["cache-control"] == "private, max-age=0"


async def test_a_redirect_that_does_not_lead_to_a_target_stays_as_it_is(run, table):
    await table.link("old", max_visits=1, visits=1, expired_target="https://over.example/")
    app = await run(unknown_host="redirect", unknown_host_target="https://which.example/")
    response = await app.get("/old.")
    assert response.headers["location"] == "https://over.example/"
    response = await app.get("/old.", headers={"host": "strange.example"})
    assert response.headers["location"] == "https://which.example/"
    counts = app.redirector.counts
    assert counts.values[counts.response("cleaned", 302)] == 0
    assert counts.values[counts.response("unknown_host", 302)] == 1


async def test_a_scan_with_junk_costs_no_more_lookups_than_one_without(run, clock):
    app = await run(unknown_lookups_per_s=5)
    custom = app.redirector.custom_codes
    await until_async(lambda: app.redirector.invalidation.connected, "the change feed is followed")
    await custom.load()
    custom.all_told(clock())
    assert custom.trusted()
    for number in range(20):
        assert (await app.get(f"/scan-{number}.")).status_code == 404
    before = app.count("local", "miss")
    assert before <= 7
    for number in range(100):
        for junk in (".", "//", "&a=b", "%20"):
            assert (await app.get(f"/more-{number}{junk}")).status_code == 404
            assert (await app.get(f"http://go.example//more-{number}{junk}")).status_code == 404
    assert app.count("local", "miss") == before
    assert app.count("codes", "refused") >= 800


async def test_the_setting_turns_it_off(run, table):
    await table.link("code")
    app = await run(clean_pasted_urls=False)
    for junk in JUNK:
        assert (await app.get(f"/code{junk}")).status_code == 404
    assert app.count("local", "miss") <= 1  # of `/code//`, which names the code by itself


@pytest.mark.parametrize("server", ["direct", "asgi"])
async def test_both_servers_clean_alike(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.link("code", TARGET, host="localhost", redirect_status=308)
    await table.domain("other.example")
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server)
        connection = http.client.HTTPConnection(part.url.removeprefix("http://"), timeout=30)
        for path in (*(f"/code{junk}" for junk in JUNK), "//code", "/code&x=1"):
            for host, status in (("localhost", 302), ("other.example", 404)):
                connection.request("GET", path, headers={"Host": host})
                response = connection.getresponse()
                response.read()
                assert response.status == status, (path, host)
                if status == 302:
                    assert response.getheader("location") == TARGET
                    assert response.getheader("cache-control") == "no-store"
        connection.close()
