"""Every answered redirect is one click in Redis, or counted as dropped; no redirect waits."""

import asyncio
import http.client
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import redis
from argon2 import PasswordHasher
from harness.mmdb import city, database
from harness.rig import exit_code
from harness.stopwatch import Stopwatch
from harness.tables import HOST, add_links
from harness.waiting import until, until_async

from redirector.clicks import geo
from redirector.clicks.capture import SLICE
from redirector.clicks.stream import CLICK_BYTES, ENTRY_BYTES
from redirector.responses.responses import Response, make_template
from shortcore.cache import store
from shortcore.cache.keys import CacheKeys
from shortcore.clicks.wire import Flag, decode_batch, partition_of
from shortcore.runtime.metrics import exposition
from shortcore.runtime.turns import TURN_S
from shortctl.embedded import EmbeddedValkey

SERVERS = ("direct", "asgi")
CHROME = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36"
PARTITIONS = 4
HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("open sesame")


def batches_in(url, prefix, partitions=PARTITIONS):
    """Return the batches of all streams, copies and all, with their partition."""
    found = []
    with redis.Redis.from_url(url) as client:
        for partition in range(partitions):
            for _, fields in client.xrange(CacheKeys(prefix).clicks(partition)):
                found.append((partition, decode_batch(fields[b"d"])))
    return found


def clicks_in(url, prefix, partitions=PARTITIONS):
    """Return all clicks as a worker would read them: copies refused by their numbers."""
    last = Counter()
    clicks = []
    for partition, batch in batches_in(url, prefix, partitions):
        if batch.number > last[partition, batch.source]:
            last[partition, batch.source] = batch.number
            clicks += batch.clicks
    return clicks


@pytest.fixture(scope="module")
def stack(module_stack):
    add_links(module_stack.postgres_url, LINKS)
    return module_stack


PLAIN, FORWARD, LIMITED, SECRET, OVER, GONE = range(6)  # the first link has the id 0
OVER_SINCE = datetime.now(UTC) - timedelta(days=1)
LINKS = {
    "plain": {"id": PLAIN},
    "forward": {"id": FORWARD, "forward_query": True},
    "limited": {"id": LIMITED, "max_visits": 1000},
    "secret": {"id": SECRET, "password_hash": HASH},
    "over": {"id": OVER, "expires_at": OVER_SINCE, "expired_target": "https://over.example/"},
    "gone": {"id": GONE, "deleted": True},
}


def ask(part, path, method="GET", body=None, **headers):
    # Not by httpx, which adds its own headers.
    connection = http.client.HTTPConnection(part.url.removeprefix("http://"), timeout=30)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("server", SERVERS)
def test_each_redirect_is_one_click_and_nothing_else_is(stack, redis_server, server):
    prefix = f"clicks-{server}:"
    part = stack.redirector(
        REDIRECTOR_SERVER=server,
        REDIS_PREFIX=prefix,
        TRUSTED_PROXIES="127.0.0.1",
        GEOIP_COUNTRY_HEADER="CF-IPCountry",
    )
    browser = {"User_Agent": CHROME, "X_Forwarded_For": "198.51.100.7"}
    for path in ("/gone", "/plain+", "/unknown", "/", "/robots.txt", "/secret"):
        for _ in range(2):
            assert ask(part, path, **browser) not in {302, 303}
    assert ask(part, "/plain", "DELETE", **browser) == 405
    for _ in range(3):
        assert ask(part, "/plain", rEfErEr="https://News.example/x?private", **browser) == 302
        assert ask(part, "/plain", "HEAD", **browser) == 302
        assert ask(part, "/plain", Sec_Purpose="prefetch;prerender", **browser) == 302
        assert ask(part, "/plain", User_Agent="Googlebot/2.1") == 302
        assert ask(part, "/forward?x=1", **browser) == 302
        assert ask(part, "/limited", **browser) == 302
        assert ask(part, "/over", **browser) == 302
        assert ask(part, "/secret", "POST", b"password=open+sesame", **browser) == 303
    assert ask(part, "/secret", "POST", b"password=wrong", **browser) == 403
    assert ask(part, "/plain", User_Agent=CHROME, X_Forwarded_For="198.51.100.250") == 302
    assert ask(part, "/plain", User_Agent=CHROME, X_Forwarded_For="203.0.113.7") == 302
    campaign = "utm_source=news&utm_medium=e-mail&utm_campaign=Spring+Sale"
    for _ in range(2):
        for path in (f"/plain?{campaign}", f"/forward?x=1&{campaign}", f"/plain&{campaign}"):
            assert ask(part, path, CF_IPCountry="FR", Accept_Language="fr-FR", **browser) == 302
    until(lambda: part.metric("shortlinks_clicks_sent_total") == 32, "32 clicks are sent")
    found = clicks_in(redis_server.url, prefix)
    assert Counter((c.link_id, c.flags, c.referrer, c.agent) for c in found) == {
        (PLAIN, 0, "news.example", CHROME): 3,
        (PLAIN, Flag.HEAD, "", CHROME): 3,
        (PLAIN, Flag.PREFETCH, "", CHROME): 3,
        (PLAIN, Flag.BOT, "", "Googlebot/2.1"): 3,
        (FORWARD, 0, "", CHROME): 5,
        (LIMITED, 0, "", CHROME): 3,
        (OVER, Flag.EXPIRED, "", CHROME): 3,
        (SECRET, 0, "", CHROME): 3,
        (PLAIN, 0, "", CHROME): 6,
    }
    assert Counter((c.source, c.medium, c.campaign, c.country, c.language) for c in found) == {
        ("", "", "", "", ""): 26,
        ("news", "e-mail", "Spring Sale", "FR", "fr"): 6,
    }
    assert {click.host for click in found} == {"localhost"}
    assert all(abs(click.at_ms / 1000 - time.time()) < 60 for click in found)
    # Of the proxy itself, of the first client's network (both addresses), and of another.
    assert len({click.visitor for click in found}) == 3
    assert part.metric("shortlinks_clicks_captured_total") == 32
    for partition, batch in batches_in(redis_server.url, prefix):
        assert {partition_of(c.link_id, PARTITIONS) for c in batch.clicks} == {partition}


def test_no_address_and_no_page_of_a_referrer_reaches_redis(stack, redis_server):
    prefix = "clicks-private:"
    part = stack.redirector(REDIS_PREFIX=prefix)
    until(lambda: ask(part, "/unknown") == 404, "it answers")
    for address in ("198.51.100.7", "2001:db8:7:7::7"):
        headers = {"X_Forwarded_For": address, "Referer": "http://a.b/page"}
        assert ask(part, "/forward?secret=1", User_Agent=CHROME, **headers) == 302
    until(lambda: part.metric("shortlinks_clicks_sent_total") == 2, "2 clicks are sent")
    with redis.Redis.from_url(redis_server.url) as client:
        raw = b"".join(
            fields[b"d"]
            for partition in range(PARTITIONS)
            for _, fields in client.xrange(CacheKeys(prefix).clicks(partition))
        )
    assert len({click.visitor for click in clicks_in(redis_server.url, prefix)}) == 2
    packed = (bytes([198, 51, 100]), bytes.fromhex("20010db80007"))
    for secret in (b"198.51", b"2001:db8", b"127.0.0.1", b"page", b"secret", *packed):
        assert secret not in raw


@pytest.mark.parametrize("server", SERVERS)
def test_a_drain_sends_what_was_captured(stack, redis_server, server):
    prefix = f"drain-{server}:"
    part = stack.redirector(REDIRECTOR_SERVER=server, REDIS_PREFIX=prefix, CLICKS_FLUSH_MS="600000")
    until(lambda: ask(part, "/plain") == 302, "a redirect")
    for _ in range(20):
        assert ask(part, "/plain") == 302
    captured = part.metric("shortlinks_clicks_captured_total")
    assert part.metric("shortlinks_clicks_sent_total") < captured
    part.child.stop()
    assert exit_code(part) == 0
    assert len(clicks_in(redis_server.url, prefix)) == captured == 21


async def test_a_full_ring_drops_clicks_and_no_redirect(run, table, redis_url, redis_prefix):
    await table.link("abc")
    app = await run(clicks_ring_size=5, clicks_partitions=1)
    click_capture = app.redirector.click_capture
    click_capture._read = lambda _: None  # a reader that does not come round to it
    responses = await asyncio.gather(*(app.get("/abc") for _ in range(20)))
    assert {response.status_code for response in responses} == {302}
    assert click_capture.dropped == {"ring": 15, "redis": 0, "drain": 0}
    del click_capture._read
    await until_async(lambda: click_capture.streams[0].sent == 5, "5 clicks are sent")
    assert len(clicks_in(redis_url, redis_prefix, 1)) == 5


@pytest.fixture
def valkey(server_folder):
    server = EmbeddedValkey(server_folder / "redis")
    server.start()
    yield server
    if server.running:
        server.resume()
        server.stop()


async def test_while_redis_is_away_a_bounded_number_waits_and_then_is_sent(
    run, table, valkey, redis_prefix
):
    await table.link("abc")
    app = await run(redis_url=valkey.url, clicks_ring_size=40, clicks_partitions=1)
    click_capture = app.redirector.click_capture
    stream = click_capture.streams[0]
    valkey.stop()
    for number in range(100):
        assert (await app.get("/abc")).status_code == 302
        await until_async(lambda: click_capture.taken > number, "the click is taken")  # noqa: B023  # called at once
    assert (stream.waiting, stream.sent, stream.full) == (40, 0, True)
    assert click_capture.dropped == {"ring": 0, "redis": 60, "drain": 0}
    valkey.start()
    await until_async(lambda: stream.sent == 40, "40 clicks are sent")
    assert (await app.get("/abc")).status_code == 302
    await until_async(lambda: stream.sent == 41, "the last click is sent")
    assert len(clicks_in(valkey.url, redis_prefix, 1)) == 41


async def test_a_batch_of_unknown_fate_is_sent_again_under_its_number(
    run, table, valkey, redis_prefix, monkeypatch
):
    # Else that could have the connection: the batch would wait for a new one, and never be sent.
    monkeypatch.setattr(store, "CLOCK_EVERY_S", 600)
    await table.link("abc")
    # A busy machine may take 50 ms for any call: a timeout closes the connection on which the batch
    # must be sent before Redis stops to answer.
    app = await run(redis_url=valkey.url, clicks_partitions=1, redis_timeout_ms=500)
    stream = app.redirector.click_capture.streams[0]
    assert (await app.get("/abc")).status_code == 302
    await until_async(lambda: stream.sent == 1, "a click is sent")
    await until_async(lambda: app.count("fill", "offered") == 1, "the link was offered to Redis")
    # The copy of the domain table takes a connection every few seconds, and here at the worst moment.
    # With one connection only, the batch would wait for a new one, and would not be sent.
    await asyncio.gather(*(app.redirector._client.ping() for _ in range(4)))
    valkey.pause()
    taker = asyncio.create_task(app.redirector.loader._copy())
    await asyncio.sleep(0)
    assert (await app.get("/abc")).status_code == 302
    await until_async(lambda: stream._away, "Redis is found unavailable")
    await taker
    valkey.resume()
    await until_async(lambda: stream.sent == 2, "both clicks are sent")
    numbers = [batch.number for _, batch in batches_in(valkey.url, redis_prefix, 1)]
    assert numbers.count(2) >= 2, "the one that timed out was carried out, too"
    assert len(clicks_in(valkey.url, redis_prefix, 1)) == 2


async def test_a_drain_without_redis_ends_in_time_and_counts_what_is_lost(run, table, valkey):
    await table.link("abc")
    app = await run(redis_url=valkey.url)
    valkey.stop()
    for _ in range(7):
        assert (await app.get("/abc")).status_code == 302
    with Stopwatch() as took:
        await app.redirector.click_capture.close()
    assert took.seconds < 4
    assert app.redirector.click_capture.dropped == {"ring": 0, "redis": 0, "drain": 7}


async def test_a_stream_is_bounded_in_bytes(run, redis_url, redis_prefix):
    app = await run(clicks_partitions=1, clicks_stream_max_length=10)
    stream = app.redirector.click_capture.streams[0]
    for number in range(1, 41):
        stream_batch_of_large_clicks(app.redirector.click_capture)
        await until_async(lambda: stream.sent == 30 * number, "the batch is sent")  # noqa: B023  # called at once
    with redis.Redis.from_url(redis_url) as client:
        entries = client.xrange(CacheKeys(redis_prefix).clicks(0))
    assert sum(len(fields[b"d"]) for _, fields in entries) < 11 * ENTRY_BYTES
    assert len(entries) >= 10


async def test_a_stream_keeps_more_entries_if_they_are_small(run, table, redis_url, redis_prefix):
    """Else the clicks of half a minute would fill it, where redirectors send five entries per second."""
    await table.link("abc")
    app = await run(clicks_partitions=1, clicks_stream_max_length=10, clicks_flush_ms=1)
    stream = app.redirector.click_capture.streams[0]
    for number in range(300):
        await app.get("/abc")
        await until_async(lambda: stream.sent > number, "the click is sent")  # noqa: B023  # called at once
    with redis.Redis.from_url(redis_url) as client:
        length = client.xlen(CacheKeys(redis_prefix).clicks(0))
    assert length == 300


def stream_batch_of_large_clicks(click_capture):
    """Capture 30 clicks, and send them as one entry of about 25 KB."""
    capture_large(click_capture, 30)
    while click_capture._ring:
        click_capture._read(SLICE)
    click_capture.streams[0].seal()


def capture_large(click_capture, number):
    """Capture `number` clicks that no two have a text in common: 800 bytes each."""
    followed = Response(make_template(302, [], 0), "https://t.example/", 1)
    for each in range(number):
        headers = [(b"User-Agent", b"%0512d" % each)]
        target = f"/abc?utm_source={each:064}&utm_medium={each:064}&utm_campaign={each:064}"
        click_capture.capture(followed, "GET", HOST, target, headers, ("192.0.2.1", 1))


async def test_clicks_that_are_slow_to_parse_do_not_hold_the_event_loop(run, table):
    app = await run()
    click_capture = app.redirector.click_capture
    parse = click_capture._parser.click

    def slow(*request):
        time.sleep(TURN_S / SLICE)
        return parse(*request)

    click_capture._parser.click = slow
    capture_large(click_capture, 4 * SLICE)
    taken = [0]
    while taken[-1] < 4 * SLICE:
        await asyncio.sleep(0)
        taken.append(click_capture.taken)
    assert max(after - before for before, after in pairwise(taken)) == SLICE


async def test_large_clicks_are_sent_in_entries_of_bounded_size(
    run, table, redis_url, redis_prefix
):
    app = await run(clicks_partitions=1)
    capture_large(app.redirector.click_capture, 2000)
    stream = app.redirector.click_capture.streams[0]
    await until_async(lambda: stream.sent == 2000, "2000 clicks are sent")
    with redis.Redis.from_url(redis_url) as client:
        entries = [entry[b"d"] for _, entry in client.xrange(CacheKeys(redis_prefix).clicks(0))]
    assert max(map(len, entries)) <= ENTRY_BYTES
    batches = [decode_batch(entry) for entry in entries]
    assert [batch.number for batch in batches] == [*range(1, len(batches) + 1)]
    agents = [int(click.agent) for batch in batches for click in batch.clicks]
    assert agents == [*range(2000)]


async def test_large_clicks_that_wait_for_redis_take_bounded_memory(run, table, valkey):
    app = await run(redis_url=valkey.url, clicks_ring_size=5000, clicks_partitions=1)
    click_capture = app.redirector.click_capture
    stream = click_capture.streams[0]
    valkey.stop()
    capture_large(click_capture, 5000)
    await until_async(lambda: click_capture.taken == 5000, "5000 clicks are taken")
    waiting = sum(len(each.payload) for each in stream._sealed)
    assert 5000 * CLICK_BYTES <= waiting <= 5000 * CLICK_BYTES + 500 * 1000
    assert click_capture.dropped["redis"] == 5000 - stream.waiting > 0
    valkey.start()
    await until_async(lambda: not stream.waiting, "all are sent")
    assert stream.sent + click_capture.dropped["redis"] == 5000
    assert not stream.full


async def test_a_click_has_the_place_in_a_database_as_soon_as_there_is_one(
    run, table, redis_url, redis_prefix, tmp_path, monkeypatch
):
    monkeypatch.setattr(geo, "INTERVAL_S", 0.01)
    await table.link("abc")
    path = tmp_path / "geo.mmdb"
    app = await run(clicks_partitions=1, geoip_database=path)
    click_capture = app.redirector.click_capture
    await until_async(lambda: click_capture.geo.failures["load"] == 1, "the file is missed")
    for built_at, country in enumerate(("", "DE", "AT"), start=1):
        if country:
            new = tmp_path / "new"
            new.write_bytes(database({"192.0.2.0/24": city(country)}, built_at=built_at))
            new.replace(path)
            await until_async(lambda: click_capture.geo.built_at == built_at, "it is loaded")  # noqa: B023  # called at once
        assert (await app.get("/abc")).status_code == 302
        await until_async(lambda: click_capture.streams[0].sent == built_at, "it is sent")  # noqa: B023  # called at once
    assert [click.country for click in clicks_in(redis_url, redis_prefix, 1)] == ["", "DE", "AT"]
    metrics = exposition(app.redirector.registry).decode()
    assert "shortlinks_geoip_database_built_timestamp_seconds 3.0" in metrics
    assert "shortlinks_geoip_database_loads_total 2.0" in metrics
    assert 'shortlinks_geoip_failures_total{operation="load"} 1.0' in metrics
    assert app.redirector.background.check().ok


async def test_switched_off_it_captures_nothing(run, table, redis_url, redis_prefix):
    await table.link("abc")
    app = await run(clicks_enabled=False, clicks_flush_ms=1)
    assert (await app.get("/abc")).status_code == 302
    assert (await app.get("/abc")).status_code == 302
    await app.redirector.click_capture.close()
    assert clicks_in(redis_url, redis_prefix) == []
    assert not app.redirector.click_capture._ring


async def test_memos_stay_small_whatever_is_sent(run, table):
    await table.link("abc")
    app = await run()
    click_capture = app.redirector.click_capture
    followed = Response(make_template(302, [], 0), "https://t.example/", 1)
    for number in range(5000):
        text = b"%d" % number
        headers = [
            (b"x-%d" % number, b""),
            (b"User-Agent", text),
            (b"Referer", b"https://%d.example/" % number),
            (b"Accept-Language", text),
        ]
        peer = f"10.{number % 250}.{number // 250}.1", 1
        click_capture.capture(followed, "GET", HOST, f"/abc?utm_source={number}", headers, peer)
    await until_async(lambda: click_capture.taken == 5000, "5000 clicks are taken")
    parser = click_capture._parser
    caches = parser._names, parser._agents, parser._hosts, parser._languages, parser._origins
    assert all(900 <= len(cache) <= 4096 for cache in caches)
