"""What a CDN may hold: permanent links in use that are the same for all, and never past their end."""

import asyncio
import gc
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import httpx
import hypothesis
import pytest
from harness.stack import Part, Stack
from harness.tables import add_links
from harness.waiting import until
from hypothesis import strategies as st

from redirector.responses.cdn import Cdn
from redirector.responses.responses import HELD_BYTES, RESPONSE_BYTES
from shortcore.links.record import Kind, LinkRecord, link_key

SERVERS = ("direct", "asgi")
HELD = {"cdn_max_age_s": 60, "cdn_stale_s": 600}
PRIVATE = "private, max-age=86400"
SHARED = "public, max-age=86400, s-maxage=60, stale-while-revalidate=600"


def at(clock, seconds):
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC) + timedelta(seconds=seconds)


async def use(app, clock, code, *, for_s=30):
    """Ask for a link through a whole life of its copy, so that it is renewed; return the last answer."""
    for _ in range(for_s):
        await app.get(f"/{code}")
        await asyncio.sleep(0.01)  # the renewal is in the background
        clock.advance(1)
    return await app.get(f"/{code}")


async def test_without_the_setting_no_redirect_is_for_a_cdn(run, table, clock):
    await table.link("abc", redirect_status=301)
    app = await run()
    response = await use(app, clock, "abc")
    assert response.headers["cache-control"] == PRIVATE
    assert "surrogate-key" not in response.headers


@pytest.mark.parametrize("status", [301, 308])
async def test_a_permanent_link_in_use_may_be_held_and_is_named(run, table, clock, status):
    await table.link("abc", redirect_status=status)
    app = await run(**HELD)
    first = await app.get("/abc")
    assert first.headers["cache-control"] == PRIVATE
    assert "surrogate-key" not in first.headers
    response = await use(app, clock, "abc")
    assert response.headers["cache-control"] == SHARED
    assert response.headers["surrogate-key"] == "go.example/abc"
    assert (response.status_code, response.headers["location"]) == (
        status,
        "https://target.example/",
    )
    counts = app.redirector.counts
    assert counts.values[counts.response("held", status)] > 0


async def test_a_link_that_was_edited_just_now_is_not_held(run, table, clock):
    await table.link("abc", redirect_status=301)
    app = await run(**HELD)
    await use(app, clock, "abc")
    version = await table.edit("abc", target="https://new.example/")
    app.redirector.cache.invalidate(link_key("go.example", "abc"), version)
    # Redis still has the old one: what is seen next comes from PostgreSQL.
    response = await app.get("/abc")
    assert response.headers["location"] == "https://new.example/"
    assert response.headers["cache-control"] == PRIVATE
    assert (await use(app, clock, "abc")).headers["cache-control"] == SHARED


async def test_a_link_that_is_seldom_asked_for_is_not_held(run, table, clock):
    await table.link("abc", redirect_status=301)
    app = await run(**HELD)
    for _ in range(3):
        assert (await app.get("/abc")).headers["cache-control"] == PRIVATE
        clock.advance(31)


@pytest.mark.parametrize(
    ("columns", "control"),
    [
        ({"redirect_status": 302}, "private, max-age=0"),
        ({"redirect_status": 307}, "private, max-age=0"),
        ({"redirect_status": 301, "max_visits": 1000}, "no-store"),
        ({"redirect_status": 301, "forward_query": True}, PRIVATE),
        ({"redirect_status": 301, "forward_path": True}, PRIVATE),
    ],
)
async def test_what_is_temporary_counted_or_not_the_same_for_all_is_never_held(
    run, table, clock, columns, control
):
    await table.link("abc", **columns)
    app = await run(**HELD)
    response = await use(app, clock, "abc")
    assert response.headers["cache-control"] == control
    assert "surrogate-key" not in response.headers


async def test_a_link_with_a_password_is_never_held(run, table, clock):
    await table.link("abc", redirect_status=301, password_hash="$argon2id$not-looked-at")
    app = await run(**HELD)
    response = await use(app, clock, "abc")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")


async def test_nothing_is_held_past_the_expiry_of_its_link(run, table, clock):
    await table.link("abc", redirect_status=301, expires_at=at(clock, 130))
    app = await run(**HELD)
    response = await use(app, clock, "abc")  # 100 s are left
    assert response.headers["cache-control"] == (
        "public, max-age=60, s-maxage=60, stale-while-revalidate=40"
    )
    assert response.headers["surrogate-key"] == "go.example/abc"
    response = await use(app, clock, "abc", for_s=70)
    assert response.headers["cache-control"] == "public, max-age=30, s-maxage=30"
    clock.advance(30)
    assert (await app.get("/abc")).status_code == 410


@hypothesis.given(
    max_age=st.integers(1, 10**6), stale=st.integers(0, 10**6), left=st.integers(-10, 10**6)
)
def test_whoever_holds_it_or_serves_it_stale_is_done_at_the_expiry(max_age, stale, left):
    control = Cdn(max_age, stale, "xkey").control(left)
    words = dict(word.split("=") for word in control.split(", ")[1:])
    later = int(words.get("stale-while-revalidate", 0))
    for name in ("max-age", "s-maxage"):
        assert 0 <= int(words[name]) + later <= max(0, left)
    assert int(words["s-maxage"]) <= max_age
    assert later <= stale


async def test_the_local_cache_knows_the_size_of_what_may_be_held(run):
    app = await run(l1_max_entries=20_000, seconds=time.monotonic, **HELD)
    cache, responses = app.redirector.cache, app.redirector.responses
    record = LinkRecord(10**6, Kind.ACTIVE, 10**6, "https://target.example/", 301)
    keys = [link_key("go.example", f"code{number:05}") for number in range(20_000)]
    gc.collect()
    tracemalloc.start()
    made = [responses.of_plain(key, record, in_use=True) for key in keys]
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tails = len(made[0][0].template.after)
    measured = used / len(keys) - tails - 64  # the tuple and the list's slot are the test's own
    assert 0.9 < measured / (RESPONSE_BYTES + HELD_BYTES) < 1.1, f"{measured:.0f} bytes"
    entry = cache.put(keys[0], record, read_at=time.monotonic())
    first = entry.size
    held = cache.put(keys[0], record, read_at=time.monotonic()).size
    assert held - first == HELD_BYTES + tails


@pytest.fixture(scope="module")
def parts(module_stack: Stack) -> dict[str, Part]:
    add_links(
        module_stack.postgres_url,
        {
            "held": {"redirect_status": 301},
            "brief": {
                "redirect_status": 308,
                "expires_at": datetime.now(UTC) + timedelta(days=1000),
            },
            "now": {"redirect_status": 302},
            "forward": {"redirect_status": 301, "forward_query": True},
        },
    )
    return {
        name: module_stack.redirector(
            REDIRECTOR_SERVER=name,
            L1_TTL_S="1",
            L1_REFRESH_AHEAD="0.2",
            CDN_MAX_AGE_S="60",
            CDN_STALE_S="600",
            CDN_KEY_HEADER="cache-tag",
        )
        for name in SERVERS
    }


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_says_the_same_to_a_cdn(parts: dict[str, Part], server: str) -> None:
    part = parts[server]
    for code in ("held", "brief"):
        assert ask(part, code)["cache-control"] == PRIVATE
        answered = ask_until_tagged(part, code)
        assert answered["cache-control"] == SHARED
        assert answered["cache-tag"] == f"localhost/{code}"
        assert answered["location"] == "https://target.example/"
        assert {**ask(part, code, "HEAD"), "date": ""} == {**answered, "date": ""}
    ends_at = time.monotonic() + 2  # two lives of an entry in the local cache
    while time.monotonic() < ends_at:
        for code in ("now", "forward"):
            assert "cache-tag" not in ask(part, code)


def ask(part: Part, code: str, method: str = "GET") -> dict[str, str]:
    return dict(httpx.request(method, f"{part.url}/{code}", trust_env=False).headers)


def ask_until_tagged(part: Part, code: str) -> dict[str, str]:
    """Return the first answer with a tag: a link is tagged from its first renewal on."""

    def tagged() -> dict[str, str] | None:
        headers = ask(part, code)
        return headers if "cache-tag" in headers else None

    found = until(tagged, f"the answer for {code} has a tag")
    assert found is not None
    return found
