import pytest
import redis
from harness.databases import fetch

from shortcore.cache.change_feed import Change
from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import decode_record, encode_record
from shortcore.links.record import Kind, LinkKey, LinkRecord, link_key
from shortctl.admin import coherence

HOST = "go.example"
FILL = (
    f"WITH d AS (INSERT INTO domains (host) VALUES ('{HOST}') RETURNING id), "
    "l AS (INSERT INTO links (id, domain_id, code, target) SELECT n, d.id, 'c' || n, "
    "'https://example.com/' || n FROM d, generate_series(1, 1234) AS n RETURNING 1) "
    "SELECT count(*) FROM l"
)


@pytest.fixture
def links(database_url):
    assert fetch(database_url, FILL) == 1234


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def name(redis_prefix):
    keys = CacheKeys(redis_prefix)
    return lambda code: keys.link(link_key(HOST, code))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(coherence, "RECHECK_AFTER_S", 0.01)


def test_a_rebuild_gives_redis_every_link(admin, links, client, name):
    done = admin("cache", "rebuild")
    assert done.exit_code == 0, done.output
    assert "1234 links offered" in done.stdout
    for number in (1, 777, 1234):
        record = decode_record(client.get(name(f"c{number}")))
        assert record.target == f"https://example.com/{number}"
    assert "had older ones of 0" in admin("cache", "rebuild").stdout
    verified = admin("cache", "verify", "--all")
    assert verified.exit_code == 0, verified.output
    assert "1234 links compared, 0 differ" in verified.stdout


def test_a_rebuild_keeps_to_its_rate(admin, links):
    import time  # noqa: PLC0415  # only here

    began = time.perf_counter()
    assert admin("cache", "rebuild", "--rate", "1500").exit_code == 0
    assert time.perf_counter() - began > 0.8


def test_a_rebuild_never_puts_an_older_record_over_a_newer_one(admin, links, client, name):
    newer = LinkRecord(10**6, Kind.ACTIVE, 1, "https://example.com/newer")
    client.set(name("c5"), encode_record(newer))
    admin("cache", "rebuild")
    assert decode_record(client.get(name("c5"))) == newer


def test_a_rebuild_that_was_held_up_reads_its_links_anew(
    admin, links, client, name, database_url, monkeypatch
):
    read, now = coherence.every_link, coherence.unix_ms
    held_up = [5000]  # ms between the first reading and Redis

    async def slowly(postgres):
        async for records in read(postgres):
            fetch(database_url, "UPDATE links SET target = 'https://new.example/', "
                  "version = nextval('link_versions') WHERE code = 'c5' RETURNING 1")  # fmt: skip
            yield records

    monkeypatch.setattr(coherence, "every_link", slowly)
    monkeypatch.setattr(coherence, "unix_ms", lambda: now() - (held_up.pop() if held_up else 0))
    done = admin("cache", "rebuild")
    assert done.exit_code == 0, done.output
    assert "had older ones of 1234" in done.stdout
    assert decode_record(client.get(name("c5"))).target == "https://new.example/"


def test_a_rebuild_tells_redirectors_of_what_was_out_of_date(
    admin, links, client, name, redis_prefix
):
    client.set(name("c5"), bytes(7) + b"\x00")  # a negative entry: version 0
    admin("cache", "rebuild")
    ((_, entry),) = client.xrange(CacheKeys(redis_prefix).changes)
    import msgspec  # noqa: PLC0415  # only here

    changes = msgspec.msgpack.decode(entry[b"d"], type=list[Change])
    assert [change.key for change in changes] == [LinkKey(f"{HOST}/c5")]


def test_each_difference_is_printed_with_what_both_have(admin, links, client, name):
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


def test_a_sample_finds_a_difference_when_it_holds_the_link(admin, links, client, name):
    client.set(name("c5"), bytes(8))
    assert admin("cache", "verify", "--sample", "2000").exit_code == 1
    client.delete(name("c5"))
    done = admin("cache", "verify", "--sample", "100")
    assert "100 links compared, 0 differ" in done.stdout


def test_a_missing_server_is_a_sentence(admin, links):
    done = admin("cache", "verify", "--redis-url", "redis://127.0.0.1:1")
    assert done.exit_code == 1
    assert "Redis is not answering" in done.stderr
