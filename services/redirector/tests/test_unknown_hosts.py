"""Hosts that belong to no domain: what they get, how they are counted, and that nothing grows."""

import tracemalloc

import pytest
import structlog
from structlog.testing import capture_logs

from redirector.domains.unknown_hosts import MANY, SAMPLE_LENGTH, WINDOW_S, UnknownHosts, shown
from shortcore.errors import ConfigurationError
from shortcore.settings.loader import load
from shortcore.settings.redirector import RedirectorSettings

STRANGE = {"host": "strange.example"}
PATHS = ("/abc", "/abc?x=1", "/abc+", "/", "/none", "/robots.txt", "/a.b", "/abc/x")


@pytest.fixture(autouse=True)
def plain_logs():
    structlog.reset_defaults()


async def test_by_default_an_unknown_host_gets_the_links_of_the_default_domain(run, table):
    await table.link("abc")
    await table.domain("other.example")
    app = await run()
    assert (await app.get("/abc", headers=STRANGE)).status_code == 302
    assert app.redirector.unknown_hosts.total == 1
    for headers in ({}, {"host": "GO.example:80"}, {"host": "other.example."}):
        await app.get("/abc", headers=headers)
    assert app.redirector.unknown_hosts.total == 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("strange", ["strange.example", "192.0.2.1", "[::1]:80", "a..b"])
async def test_an_unknown_host_can_be_not_found_on_every_path(run, table, path, strange):
    await table.link("abc")
    await table.domain("other.example", not_found_target="https://lost.example/")
    app = await run(unknown_host="not_found")
    response = await app.get(path, headers={"host": strange})
    assert response.status_code == 404
    assert "location" not in response.headers
    assert app.redirector.unknown_hosts.total == 1
    assert (await app.get("/abc")).status_code == 302
    assert (await app.get("/a.b", headers={"host": "other.example"})).status_code == 302


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_host_can_lead_to_a_url(run, table, path):
    await table.link("abc")
    app = await run(unknown_host="redirect", unknown_host_target="https://Example.com/which")
    response = await app.get(path, headers=STRANGE)
    assert (response.status_code, response.headers["location"]) == (
        302,
        "https://example.com/which",
    )
    assert response.headers["cache-control"] == "private, max-age=0"
    assert (await app.get("/abc")).headers["location"] == "https://target.example/"


async def test_a_host_is_not_redirected_to_itself(run, table):
    await table.domain()
    app = await run(unknown_host="redirect", unknown_host_target="https://strange.example:8443/")
    assert (await app.get("/", headers=STRANGE)).status_code == 404
    assert (await app.get("/", headers={"host": "else.example"})).status_code == 302


async def test_a_post_to_an_unknown_host_is_not_found(run, table):
    await table.domain()
    app = await run(unknown_host="not_found")
    response = await app.http.request("POST", "/abc", headers=STRANGE, content=b"password=x")
    assert response.status_code == 404
    assert app.redirector.unknown_hosts.total == 1


async def test_before_the_table_is_read_no_host_is_unknown(run):
    not_found_entry = "postgresql://x@127.0.0.1:1/x"
    app = await run(
        unknown_host="not_found", postgres_url=not_found_entry, redis_prefix="nothing-there:"
    )
    assert (await app.get("/abc", headers=STRANGE)).status_code == 503
    assert app.redirector.unknown_hosts.total == 0


async def test_a_domain_that_is_added_is_known_from_then_on(run, table):
    await table.domain()
    app = await run(unknown_host="not_found")
    await table.link("abc", host="strange.example")
    assert (await app.get("/abc", headers=STRANGE)).status_code == 404
    await app.redirector.loader.load()
    assert (await app.get("/abc", headers=STRANGE)).status_code == 302


async def test_random_hosts_take_no_memory_and_put_no_domain_out(run, table):
    await table.link("abc")
    app = await run()
    domains = app.redirector.domains
    assert domains.of_header("go.example").host == "go.example"
    known = dict(domains.known)
    with capture_logs() as lines:
        for number in range(1000):
            domains.of_header(f"warm-{number}.example")
        tracemalloc.start()
        for number in range(20_000):
            domains.of_header(f"random-{number}.example" + "x" * (number % 200))
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert domains.known == known
    assert grown < 100_000
    assert len(lines) == 1


def test_a_warning_comes_once_a_minute_with_the_number_and_a_cut_and_clean_sample(clock):
    hosts = UnknownHosts(clock)
    with capture_logs() as lines:
        for _ in range(MANY - 1):
            hosts.note("few.example")
        assert lines == []
        hosts.note("evil\r\n\x1b[31m\u202e" + "x" * 60_000)
        assert len(lines) == 1
        for _ in range(59):
            clock.advance(1)
            for _ in range(1000):
                hosts.note("many.example")
        assert len(lines) == 1
        clock.advance(1)
        hosts.note("many.example")
    assert [line["requests"] for line in lines] == [MANY, 59_001]
    assert lines[0]["host"].startswith("evil???[31m?xxx")
    assert len(lines[0]["host"]) == SAMPLE_LENGTH + 3
    assert lines[0]["host"].isascii()
    assert lines[0]["host"].isprintable()
    assert (lines[1]["host"], lines[1]["seconds"]) == ("many.example", WINDOW_S)
    assert hosts.total == MANY + 59_001


def test_few_requests_a_minute_are_no_warning_however_long_they_go_on(clock):
    hosts = UnknownHosts(clock)
    with capture_logs() as lines:
        for _ in range(10 * MANY):
            hosts.note("probe")
            clock.advance(1.0)
    assert lines == []


def test_a_shown_host_is_printable():
    assert shown("a\nb\x00\u00e9 c") == "a?b???c"


@pytest.mark.parametrize(
    ("policy", "target"),
    [("redirect", None), ("redirect", "javascript:alert(1)"), ("redirect", "/x"), ("maybe", None)],
)
def test_settings_that_cannot_work_stop_the_start(policy, target, monkeypatch):
    for name, value in {
        "POSTGRES_URL": "x", "REDIS_URL": "x", "CODE_SECRET": "0123456789abcdef",
        "UNKNOWN_HOST": policy, "UNKNOWN_HOST_TARGET": target,
    }.items():  # fmt: skip
        if value is not None:
            monkeypatch.setenv(f"SHORTLINKS_{name}", value)
    with pytest.raises(ConfigurationError, match="SHORTLINKS_UNKNOWN_HOST"):
        load(RedirectorSettings)
