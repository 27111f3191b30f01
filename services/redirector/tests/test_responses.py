"""What each kind of link answers, over real servers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from redirector.links.service import MAX_REST
from redirector.rules.resolve import Ask, Outcome, resolve
from shortcore.links.record import Kind, LinkRecord

NOWHERE = {"postgres_url": "postgresql://x@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1"}


def at(clock, seconds):
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_link_redirects_with_its_status_on_get_and_head(run, table, status):
    await table.link("abc", "https://t.example/x?y=1#z", redirect_status=status)
    app = await run()
    for method in ("GET", "HEAD", "GET"):
        response = await app.http.request(method, "/abc?ignored=1")
        assert response.status_code == status
        assert response.headers["location"] == "https://t.example/x?y=1#z"
        shared = "private, max-age=86400" if status in {301, 308} else "private, max-age=0"
        assert response.headers["cache-control"] == shared


async def test_deleted_is_410_disabled_unknown_and_impossible_are_404(run, table):
    await table.link("gone", deleted=True)
    await table.link("off", enabled=False)
    app = await run()
    paths = ("/gone", "/gone+", "/off", "/none", "/none+", "/a.b", "/" + "x" * 65, "/off/x")
    statuses = [(await app.get(path)).status_code for path in paths]
    assert statuses == [410, 410, 404, 404, 404, 404, 404, 404]


async def test_a_link_ends_at_its_expiry_also_while_it_is_cached(run, table, clock):
    await table.link("abc", redirect_status=301, expires_at=at(clock, 20))
    await table.link("other", expires_at=at(clock, 20), expired_target="https://over.example/")
    app = await run()
    clock.advance(19)
    response = await app.get("/abc")
    assert (response.status_code, response.headers["cache-control"]) == (301, "private, max-age=1")
    assert (await app.get("/other")).headers["location"] == "https://target.example/"
    clock.advance(1)
    assert (await app.get("/abc")).status_code == 410
    assert (await app.get("/other")).headers["location"] == "https://over.example/"


async def test_a_link_is_not_found_before_it_is_valid(run, table, clock):
    await table.link("abc", valid_from=at(clock, 10))
    app = await run()
    clock.advance(9)
    response = await app.get("/abc")
    assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")
    clock.advance(1)
    assert (await app.get("/abc")).status_code == 302


async def test_query_and_path_are_forwarded_into_their_places(run, table):
    await table.link("abc", "https://t.example/b?x=1#f", forward_query=True, forward_path=True)
    app = await run()
    response = await app.get("/abc/c/d%2Fe?y=2&z=%0D%0A")
    assert response.headers["location"] == "https://t.example/b/c/d%2Fe?x=1&y=2&z=%0D%0A#f"
    assert (await app.http.get("/abc/%2E%2E/x")).status_code == 404


async def test_a_forwarded_path_has_a_bound(run, table):
    await table.link("abc", "https://t.example/", forward_path=True)
    app = await run()
    longest = "/" + "x" * (MAX_REST - 1)
    assert (await app.get(f"/abc{longest}")).headers["location"] == f"https://t.example{longest}"
    assert (await app.http.get(f"/abc{longest}x")).status_code == 414


@pytest.mark.parametrize(
    "rest",
    [
        "/..", "/a/%2e%2E/b", "/..\\..\\admin", "/a\\%2e%2e", "/..%2f..%2Fadmin", "/a%5c..%5Cadmin",
        "/%2e%2e%2fadmin", "/..;/admin", "/..;a=b/admin", "/.%3b/admin", "/a/.",
    ],
)  # fmt: skip
def test_nothing_that_climbs_out_of_the_target_is_forwarded(rest):
    record = LinkRecord(1, Kind.ACTIVE, target="https://example.com/app/", forward_path=True)
    assert resolve(record, Ask(rest=rest), 0).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "rest", ["/...", "/a..", "/..a", "/%252e%252e/a", "/a;..", "/a%2Fb", "/.a;b"]
)
def test_names_with_dots_are_forwarded(rest):
    record = LinkRecord(1, Kind.ACTIVE, target="https://example.com/app/", forward_path=True)
    decision = resolve(record, Ask(rest=rest), 0)
    assert decision.location == f"https://example.com/app{rest}"


async def test_a_visit_limit_is_exact_over_two_redirectors(run, table):
    await table.link("abc", max_visits=20)
    apps = [await run(), await run()]
    for app in apps:
        assert (await app.http.head("/abc")).status_code == 302
    responses = await asyncio.gather(*(apps[n % 2].get("/abc") for n in range(40)))
    assert sorted(response.status_code for response in responses) == [302] * 20 + [410] * 20
    assert {a.headers["cache-control"] for a in responses if a.status_code == 302} == {"no-store"}
    assert (await apps[0].http.head("/abc")).status_code == 410


async def test_a_thousand_at_once_make_one_look_up(run, table):
    await table.link("abc")
    app = await run()
    first = asyncio.ensure_future(app.get("/abc"))
    others = [asyncio.ensure_future(app.get("/abc")) for _ in range(999)]
    await asyncio.sleep(0)
    first.cancel()
    assert {(await response).status_code for response in others} == {302}
    assert (app.count("redis", "miss"), app.count("postgres", "hit")) == (1, 1)


async def test_with_everything_down_it_starts_and_says_unavailable_never_not_found(run):
    app = await run(**NOWHERE)
    response = await app.get("/abc")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.headers["cache-control"] == "no-store"
    assert (await app.get("/")).status_code == 200


async def test_without_redis_postgresql_answers(run, table):
    await table.link("abc")
    app = await run(redis_url=NOWHERE["redis_url"])
    assert (await app.get("/abc")).status_code == 302
    assert (await app.get("/none")).status_code == 404


async def test_an_older_record_than_was_seen_is_not_used(run, table):
    old = await table.link("abc", "https://old.example/")
    app = await run()
    assert (await app.get("/abc")).headers["location"] == "https://old.example/"
    new = await table.edit("abc", target="https://new.example/")
    app.redirector.cache.invalidate("go.example/abc", new)
    assert old < new
    # Redis still has the old one: nothing was published.
    assert (await app.get("/abc")).headers["location"] == "https://new.example/"


async def test_unknown_hosts_get_the_default_domain_and_others_their_own(run, table):
    await table.link("abc")
    await table.domain("other.example", default_target="https://home.example/",
                       not_found_target="https://lost.example/")  # fmt: skip
    app = await run()
    other = {"host": "OTHER.example:8080"}
    assert (await app.get("/abc", headers={"host": "nobody.example"})).status_code == 302
    assert (await app.get("/", headers=other)).headers["location"] == "https://home.example/"
    assert (await app.get("/abc", headers=other)).headers["location"] == "https://lost.example/"
