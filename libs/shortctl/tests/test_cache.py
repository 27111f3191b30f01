import pytest
import redis
from harness.tables import HOST, add_links, edit_link

from shortcore.cache.change_feed import Change
from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import decode_record, encode_record
from shortcore.links.record import Kind, LinkKey, LinkRecord, link_key
from shortctl.admin import coherence, rebuild


@pytest.fixture
def links(database_url):
    rows = {f"c{n}": {"target": f"https://example.com/{n}"} for n in range(1, 1235)}
    add_links(database_url, rows, host=HOST)


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def name(redis_prefix):
    keys = CacheKeys(redis_prefix)
    return lambda code: keys.link(link_key(HOST, code))


@pytest.fixture(autouse=True)
def short_recheck(monkeypatch):
    monkeypatch.setattr(coherence, "RECHECK_AFTER_S", 0.01)


def test_a_rebuild_copies_every_link_to_redis(admin, links, client, name):
    done = admin("cache", "rebuild")
    assert done.exit_code == 0, done.output
    assert "1234 links read" in done.stdout
    for number in (1, 777, 1234):
        record = decode_record(client.get(name(f"c{number}")))
        assert record.target == f"https://example.com/{number}"
    assert "0 were missing or older in Redis" in admin("cache", "rebuild").stdout
    verified = admin("cache", "verify", "--all")
    assert verified.exit_code == 0, verified.output
    assert "1234 links compared, 0 differ" in verified.stdout


def test_a_rebuild_does_not_exceed_its_rate(admin, links):
    import time  # noqa: PLC0415  # only here

    began = time.perf_counter()
    assert admin("cache", "rebuild", "--rate", "1500").exit_code == 0
    assert time.perf_counter() - began > 0.8


def test_a_rebuild_never_replaces_a_newer_record_with_an_older_one(admin, links, client, name):
    newer = LinkRecord(10**6, Kind.ACTIVE, 1, "https://example.com/newer")
    client.set(name("c5"), encode_record(newer))
    admin("cache", "rebuild")
    assert decode_record(client.get(name("c5"))) == newer


def test_a_rebuild_that_was_paused_reads_its_links_again(
    admin, links, client, name, database_url, monkeypatch
):
    read, now = rebuild.every_link, rebuild.unix_ms
    paused = [5000]  # ms between the first read and the write to Redis

    async def slowly(postgres):
        async for records in read(postgres):
            edit_link(database_url, "c5", target="https://new.example/")
            yield records

    monkeypatch.setattr(rebuild, "every_link", slowly)
    monkeypatch.setattr(rebuild, "unix_ms", lambda: now() - (paused.pop() if paused else 0))
    done = admin("cache", "rebuild")
    assert done.exit_code == 0, done.output
    assert "1234 were missing or older in Redis" in done.stdout
    assert decode_record(client.get(name("c5"))).target == "https://new.example/"


def test_a_rebuild_notifies_redirectors_of_replaced_records(
    admin, links, client, name, redis_prefix
):
    client.set(name("c5"), bytes(7) + b"\x00")  # a negative entry: version 0
    admin("cache", "rebuild")
    ((_, entry),) = client.xrange(CacheKeys(redis_prefix).changes)
    import msgspec  # noqa: PLC0415  # only here

    changes = msgspec.msgpack.decode(entry[b"d"], type=list[Change])
    assert [change.key for change in changes] == [LinkKey(f"{HOST}/c5")]


def test_each_difference_is_printed_with_both_records(admin, links, client, name):
    admin("cache", "rebuild")
    wrong = LinkRecord(10**6, Kind.ACTIVE, 1, "https://evil.example/")
    client.set(name("c5"), encode_record(wrong))
    client.set(name("c6"), bytes(8))
    client.set(name("ghost"), encode_record(wrong))
    done = admin("cache", "verify", "--all")
    assert done.exit_code == 1
    assert "3 differ" in done.stdout
    for expected in (
        f"{HOST}/c5",
        "https://evil.example/",
        f"{HOST}/c6",
        f"{HOST}/ghost",
        "no row",
    ):
        assert expected in done.stdout


def test_a_sample_that_contains_the_link_finds_the_difference(admin, links, client, name):
    client.set(name("c5"), bytes(8))
    assert admin("cache", "verify", "--sample", "2000").exit_code == 1
    client.delete(name("c5"))
    done = admin("cache", "verify", "--sample", "100")
    assert "100 links compared, 0 differ" in done.stdout


def test_an_unavailable_server_is_reported_in_a_sentence(admin, links):
    done = admin("cache", "verify", "--redis-url", "redis://127.0.0.1:1")
    assert done.exit_code == 1
    assert "Redis is not answering" in done.stderr
