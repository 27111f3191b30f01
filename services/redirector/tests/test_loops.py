"""A redirect that would lead back to where it came from is not sent: 508, with a page that says why."""

import asyncio
import time

import pytest
from argon2 import PasswordHasher
from structlog.testing import capture_logs

from redirector.responses.responses import RESPONSE_BYTES
from redirector.rules.loops import Leads, OwnHosts, place_of

OWN = OwnHosts({"go.example", "xn--bcher-kva.example", "www.shop.example"})
HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("sesame")


@pytest.mark.parametrize(
    ("target", "leads"),
    [
        ("https://go.example/abc", Leads.HERE),
        ("https://go.example", Leads.HERE),
        ("http://go.example:8443/abc", Leads.HERE),
        ("https://user:word@go.example/", Leads.HERE),
        ("https://xn--bcher-kva.example/?q", Leads.HERE),
        # The writer stores none of these spellings; they come from a row that it did not write.
        ("https://GO.Example./abc", Leads.HERE),
        ("https://bücher.example/", Leads.HERE),
        ("http://%67o.example/", Leads.HERE),
        ("http:\\\\go.example\\abc", Leads.HERE),
        ("http://///go.example/", Leads.HERE),
        ("https://go.example?x=https://t.example/", Leads.HERE),
        ("https://www.go.example/", Leads.PERHAPS),
        ("https://shop.example/", Leads.PERHAPS),
        ("http://127.0.0.1:8001/", Leads.PERHAPS),
        ("http://2130706433/", Leads.PERHAPS),
        ("http://[::1]:8001/", Leads.PERHAPS),
        ("http://localhost:8001/", Leads.PERHAPS),
        ("http://redirector/abc", Leads.PERHAPS),
        ("https://t.example/?u=https://go.example/", Leads.ELSEWHERE),
        ("https://go.example@t.example/", Leads.ELSEWHERE),
        ("https://go.example.t.example/", Leads.ELSEWHERE),
        ("https://ngo.example/", Leads.ELSEWHERE),
        ("mailto:a@go.example", Leads.ELSEWHERE),
        ("http://", Leads.ELSEWHERE),
    ],
)
def test_the_host_of_a_target_says_where_it_leads(target, leads):
    for _ in ("decided", "remembered"):
        assert OWN.leads(target) is leads


@pytest.mark.parametrize(
    ("target", "asked", "back"),
    [
        ("http://127.0.0.1:8001/a", "127.0.0.1:8001", True),
        ("http://127.0.0.1:8001/a", "localhost:8001", True),
        ("http://[::1]:8001/a", "127.0.0.1:8001", True),
        ("http://[::ffff:127.0.0.1]:8001/a", "[::1]:8001", True),
        ("http://a.localhost/", "localhost", True),
        ("http://127.0.0.1:9000/a", "127.0.0.1:8001", False),
        ("http://127.0.0.1:9000/a", "127.0.0.1", False),
        ("http://127.0.0.1:8001/a", "go.example", False),
        ("http://10.0.0.1/", "10.0.0.1", True),
        ("http://10.0.0.1/", "10.0.0.2", False),
        ("https://www.go.example/", "www.go.example", True),
        ("https://www.go.example/", "WWW.go.example.:443", True),
        ("https://www.go.example:8443/", "www.go.example", True),
        ("https://www.go.example/", "go.example", False),
        ("https://go.example/", "anything", True),
        ("https://t.example/", "t.example", False),
        ("http://127.0.0.1/", "127.0.0.1" * 1000, False),
        ("http://127.0.0.1/", "", False),
    ],
)
def test_a_host_that_may_be_ours_is_compared_with_the_one_that_was_asked(target, asked, back):
    assert OWN.leads_back(target, asked) is back


def test_the_memory_of_targets_is_bounded():
    own = OwnHosts({"go.example"})
    for number in range(10_000):
        own.leads(f"https://t{number}.example/")
        own.leads(f"https://{'t' * 63}.{'t' * 63}.t{number}.example/")
    assert len(own._known) <= 4096
    assert max(map(len, own._known)) <= 128
    assert place_of("http://a:99999999999/") is None


async def test_two_links_that_point_to_each_other_are_both_refused(run, table):
    await table.link("abc", "https://other.example/xyz", host="go.example")
    await table.link("xyz", "https://go.example/abc", host="other.example", redirect_status=301)
    app = await run()
    other = {"host": "OTHER.example.:8080"}
    with capture_logs() as logs:
        for _ in ("from PostgreSQL", "from memory"):
            for method in ("GET", "HEAD"):
                for response in (
                    await app.http.request(method, "/abc"),
                    await app.http.request(method, "/xyz", headers=other),
                ):
                    assert response.status_code == 508
                    assert "location" not in response.headers
    assert "leads back here" in (await app.get("/abc")).text
    [line] = [line for line in logs if line["log_level"] == "warning"]
    assert line["link"] in {"go.example/abc", "other.example/xyz"}
    counts = app.redirector.counts
    assert counts.values[counts.response("loop", 508)] == 9
    assert "other.example/xyz" in (await app.get("/abc+")).text


async def test_links_with_rules_are_refused_too_and_no_visit_is_used_up(run, table):
    await table.link("limited", "https://go.example/x", max_visits=1)
    await table.link("forward", "https://go.example/x", forward_path=True, forward_query=True)
    await table.link("locked", "https://go.example/x", password_hash=HASH)
    await table.link("over", expired_target="https://go.example/x", max_visits=1, visits=1)
    app = await run()
    for path in ("/limited", "/limited", "/forward/a?b=c", "/over"):
        assert (await app.get(path)).status_code == 508, path
    assert (await app.get("/locked")).status_code == 200
    form = {"password": "sesame"}
    assert (await app.http.post("/locked", data=form)).status_code == 508
    visits = await table.visits("limited")
    assert visits == 0


async def test_a_link_edited_into_a_loop_while_it_is_counted_is_refused(run, table):
    await table.link("abc", "https://t.example/", max_visits=5)
    app = await run()
    assert (await app.get("/abc")).status_code == 302
    await table.edit("abc", target="https://go.example/abc")
    assert (await app.get("/abc")).status_code == 508


async def test_a_host_that_becomes_ours_later_is_refused_from_then_on_also_in_memory(run, table):
    await table.link("abc", "https://later.example/page")
    app = await run()
    for _ in ("from PostgreSQL", "from memory"):
        assert (await app.get("/abc")).status_code == 302
    await table.domain("later.example")
    await app.redirector.loader.load()
    before = app.count("local", "miss")
    assert (await app.get("/abc")).status_code == 508
    await table.remove_domain("later.example")
    await app.redirector.loader.load()
    assert (await app.get("/abc")).status_code == 302
    assert app.count("local", "miss") == before, "it was looked up again"


async def test_many_links_are_decided_anew_without_holding_up_anybody(run, table):
    app = await run()
    cache = app.redirector.cache
    await table.link("abc")
    assert (await app.get("/abc")).status_code == 302
    record = cache.entries["go.example/abc"].record
    for number in range(20_000):
        cache.put(f"go.example/c{number}", record, read_at=1000.0)
    size = cache.bytes - len(cache) * RESPONSE_BYTES  # they will share one page
    longest, last = 0.0, time.thread_time()

    async def tick():
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()  # a busy machine adds nothing to it
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await table.domain("target.example")
    await app.redirector.loader.load()
    ticking.cancel()
    assert {entry.response.status for entry in cache.entries.values()} == {508}
    assert cache.bytes == size
    assert longest < 0.05


async def test_a_link_to_an_address_is_followed_unless_it_was_asked_there(run, table):
    await table.link("abc", "http://127.0.0.1:8001/abc")
    await table.link("www", "https://www.go.example/www")
    app = await run()
    for host, status in (
        ("go.example", 302),
        ("127.0.0.1:9000", 302),
        ("127.0.0.1:8001", 508),
        ("localhost:8001", 508),
        ("[::1]:8001", 508),
    ):
        for _ in ("from PostgreSQL", "from memory"):
            response = await app.get("/abc", headers={"host": host})
            assert response.status_code == status, host
    # `www.` may be another site; if it is not, the second request comes with its name.
    assert (await app.get("/www")).headers["location"] == "https://www.go.example/www"
    assert (await app.get("/www", headers={"host": "www.go.example"})).status_code == 508


async def test_a_domain_does_not_send_visitors_of_its_root_in_a_circle(run, table):
    await table.domain(default_target="https://www.go.example/", not_found_target="https://www.go.example/404")  # fmt: skip
    await table.domain("other.example", default_target="https://go.example/", not_found_target="http://OTHER.example/x")  # fmt: skip
    app = await run()
    www, other = {"host": "www.go.example"}, {"host": "other.example"}
    for _ in range(2):
        assert (await app.get("/")).headers["location"] == "https://www.go.example/"
        assert (await app.get("/none")).headers["location"] == "https://www.go.example/404"
        assert (await app.get("/", headers=www)).status_code == 200
        assert (await app.get("/404", headers=www)).status_code == 404
        assert (await app.get("/", headers=other)).status_code == 200
        assert (await app.get("/x", headers=other)).status_code == 404
