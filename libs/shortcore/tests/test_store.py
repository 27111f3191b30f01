import asyncio
import time

import pytest
import redis as sync_redis
from harness.stopwatch import Stopwatch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shortcore.cache.keys import CacheKeys
from shortcore.cache.record import MAX_VERSION, decode_record, encode_record
from shortcore.cache.scripts import PUBLISH
from shortcore.cache.store import OFFERED_AT_ONCE, CacheStore, Published
from shortcore.cache.ttls import CacheTtls
from shortcore.errors import CacheUnavailable
from shortcore.links.record import Kind, LinkKey, LinkRecord, absent
from shortcore.storage.circuit_breaker import Breaker
from shortcore.storage.redis import open_redis
from shortctl.embedded.ports import free_port

KEY = LinkKey("go.example/a")
TIMEOUT_MS = 2000
TTLS = CacheTtls(link_ms=600_000, negative_ms=30_000, tombstone_ms=900_000, fill_max_age_ms=2000)


def now_ms():
    return int(time.time() * 1000)


def link(version, kind=Kind.ACTIVE, **fields):
    return LinkRecord(version, kind, 1, f"https://a.example/{version}", **fields)


def new_breaker():
    return Breaker(failures=3, open_s=30, clock=time.monotonic)


def new_store(url, prefix, timeout_ms=TIMEOUT_MS, breaker=None, application="test", pool_size=8):
    client = open_redis(url, timeout_ms=timeout_ms, pool_size=pool_size, application=application)
    return CacheStore(
        client,
        CacheKeys(prefix),
        ttls=TTLS,
        timeout_ms=timeout_ms,
        breaker=breaker or new_breaker(),
        now_ms=now_ms,
        jitter=lambda: 0.5,
    )


def greeted(data, writer):
    """Answer the HELLO of a client as a server without a name does; return the bytes behind it."""
    if b"HELLO" not in data:
        return data
    writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
    return data.split(b"HELLO", 1)[1]


@pytest.fixture
async def store(redis_url, redis_prefix):
    made = new_store(redis_url, redis_prefix)
    yield made
    await made.close()


async def ttl(store):
    return await store._client.pttl(store._keys.link(KEY))


offers = st.tuples(st.integers(0, 6), st.sampled_from(list(Kind)))


@given(st.lists(offers, min_size=1, max_size=12))
@example([(3, Kind.ACTIVE), (2, Kind.DELETED), (0, Kind.ABSENT)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_in_any_order_of_publishes_deletes_and_fills_the_highest_version_wins(
    redis_url, redis_prefix, changes
):
    # Hypothesis runs this many times in one test: the key is the example's own.
    client = sync_redis.Redis.from_url(redis_url)
    name = f"{redis_prefix}l:{{{KEY}}}"
    client.delete(name)
    script = client.register_script(PUBLISH)
    best = -1
    for version, kind in changes:
        record = absent() if version == 0 else LinkRecord(version, kind, 1, f"t{version}")
        taken = script(keys=[name], args=[60_000, encode_record(record), 60_000, now_ms()])
        assert taken == [1 if version > best else 0]
        best = max(best, version)
        assert decode_record(client.get(name)).version == best
    client.close()


async def test_concurrent_offers_leave_the_newest_version_in_any_order(store):
    records = [link(version) for version in range(1, 101)]
    await asyncio.gather(*(store.publish(KEY, record) for record in reversed(records)))
    assert await store.get(KEY) == link(100)


async def test_versions_are_compared_exactly_up_to_the_largest(store):
    assert await store.publish(KEY, link(MAX_VERSION - 1)) is Published.TAKEN
    assert await store.publish(KEY, link(MAX_VERSION - 2)) is Published.OLDER
    assert await store.publish(KEY, link(MAX_VERSION)) is Published.TAKEN
    assert await store.publish(KEY, link(MAX_VERSION)) is Published.OLDER


async def test_a_late_fill_does_not_replace_a_tombstone(store):
    await store.measure_clock()
    await store.publish(KEY, LinkRecord(5, Kind.DELETED, 1))
    assert await store.fill(KEY, link(4), read_at_ms=now_ms()) is Published.OLDER
    assert (await store.get(KEY)).kind is Kind.DELETED


async def test_a_fill_that_was_read_too_long_ago_is_refused_even_if_the_key_is_empty(store):
    await store.measure_clock()
    # The error of the measurement is at most the duration of the call: the store's deadline.
    late = now_ms() - TTLS.fill_max_age_ms - TIMEOUT_MS
    assert await store.fill(KEY, link(4), read_at_ms=late) is Published.EXPIRED
    assert await store.get(KEY) is None
    assert await store.fill(KEY, link(4), read_at_ms=now_ms()) is Published.TAKEN


async def test_the_age_of_a_fill_is_measured_by_the_clock_of_redis(store):
    await store.measure_clock()
    store.clock_offset_ms -= 60_000  # as if the local clock were a minute ahead
    assert await store.fill(KEY, link(4), read_at_ms=now_ms()) is Published.EXPIRED
    assert await store.fill(KEY, link(4), read_at_ms=now_ms() + 60_000) is Published.TAKEN


async def test_a_slow_measurement_of_the_clock_makes_no_record_look_younger(store, monkeypatch):
    ask = store._client.time

    async def slowly():
        await asyncio.sleep(0.2)  # the reply is delayed while the local clock continues
        return await ask()

    monkeypatch.setattr(store._client, "time", slowly)
    assert await store.measure_clock() < 100


async def test_the_first_offer_measures_the_clock(store):
    assert store.clock_offset_ms is None
    assert await store.fill(KEY, link(4), read_at_ms=now_ms()) is Published.TAKEN
    assert abs(store.clock_offset_ms) < 1000


async def test_a_delayed_publish_is_refused_like_a_fill(store):
    late = now_ms() - TTLS.fill_max_age_ms - 200
    items = [(KEY, link(4)), (LinkKey("go.example/b"), link(5))]
    assert await store.publish_many(items, read_at_ms=late) == [Published.EXPIRED] * 2
    assert await store.get(KEY) is None
    assert await store.publish_many(items, read_at_ms=now_ms()) == [Published.TAKEN] * 2


async def test_each_of_many_records_is_taken_or_refused_by_itself(store):
    keys = [LinkKey(f"go.example/{letter}") for letter in "abc"]
    await store.publish(keys[1], link(9))
    results = await store.publish_many([(key, link(5)) for key in keys], read_at_ms=now_ms())
    assert results == [Published.TAKEN, Published.OLDER, Published.TAKEN]
    unknown = LinkKey("go.example/none")
    assert await store.get_many([*keys, unknown]) == [link(5), link(9), link(5), None]


async def test_the_results_of_more_records_than_one_script_takes_are_in_order(store):
    keys = [LinkKey(f"go.example/{number}") for number in range(2 * OFFERED_AT_ONCE + 1)]
    newer = keys[::7]
    await store.publish_many([(key, link(9)) for key in newer], read_at_ms=now_ms())
    results = await store.publish_many([(key, link(5)) for key in keys], read_at_ms=now_ms())
    assert results == [
        Published.OLDER if number % 7 == 0 else Published.TAKEN for number in range(len(keys))
    ]
    assert await store.get_many(keys) == [
        link(9) if number % 7 == 0 else link(5) for number in range(len(keys))
    ]


async def test_a_script_that_the_server_lost_is_sent_again(store):
    await store.publish(KEY, link(1))
    await store._client.script_flush()
    assert await store.publish(KEY, link(2)) is Published.TAKEN


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (link(1), 570_000),  # 5% less, by the jitter of this store
        (absent(), 30_000),
        (absent(8), 900_000),
        (LinkRecord(1, Kind.DELETED), 900_000),
    ],
)
async def test_each_kind_of_record_has_its_ttl(store, record, expected):
    await store.publish(KEY, record)
    assert expected - 2000 < await ttl(store) <= expected


async def test_a_record_never_outlives_its_link(store):
    await store.publish(KEY, link(1, expires_at_ms=now_ms() + 5000))
    assert 0 < await ttl(store) <= 5000


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"seven b", b"\xff" * 30, b"\x00" * 7 + b"\x09" + b"garbage"]
)
async def test_a_corrupt_value_is_a_miss(store, garbage):
    await store._client.set(store._keys.link(KEY), garbage)
    assert await store.get(KEY) is None
    assert store.corrupt_total == 1


@pytest.mark.parametrize("garbage", [b"", b"seven b", b"\xff" * 30])
async def test_a_corrupt_value_without_a_version_is_replaced_by_a_record(store, garbage):
    await store._client.set(store._keys.link(KEY), garbage)
    assert await store.publish(KEY, link(1)) is Published.TAKEN
    assert await store.get(KEY) == link(1)


async def test_a_key_of_another_type_is_replaced_and_fails_no_batch(store):
    other = LinkKey("go.example/b")
    await store._client.rpush(store._keys.link(KEY), "a list")
    both = [(KEY, link(1)), (other, link(1))]
    assert await store.publish_many(both, read_at_ms=now_ms()) == [Published.TAKEN] * 2
    assert await store.get_many([KEY, other]) == [link(1), link(1)]


async def test_a_server_that_is_down_is_one_error_and_then_the_breaker_refuses_calls(redis_prefix):
    store = new_store(f"redis://127.0.0.1:{free_port()}/0", redis_prefix, timeout_ms=200)
    for _ in range(3):
        with pytest.raises(CacheUnavailable):
            await store.get(KEY)
    assert not store.check().ok
    with Stopwatch() as took:
        for _ in range(100):
            with pytest.raises(CacheUnavailable):
                await store.publish(KEY, link(1))
    assert took.seconds < 0.1
    await store.close()


async def test_a_server_that_never_answers_is_given_up_at_the_deadline(redis_prefix):
    async def mute(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = new_store(f"redis://127.0.0.1:{port}/0", redis_prefix, timeout_ms=100)
    try:
        for call in (
            lambda: store.get_many([KEY]),
            lambda: store.publish_many([(KEY, link(1)), (KEY, link(2))], read_at_ms=now_ms()),
            store.measure_clock,
        ):
            with Stopwatch() as took, pytest.raises(CacheUnavailable, match=r"100 ms|Timeout"):
                await call()
            assert took.wall_s > 0.09
            assert took.seconds < 0.3
    finally:
        await store.close()
        server.close()
        await server.wait_closed()


async def test_a_server_that_is_slow_at_each_step_is_given_up_at_the_deadline_of_one_call(
    redis_prefix,
):
    ended = asyncio.Event()

    async def slow(reader, writer):
        while data := await reader.read(65536):
            await asyncio.sleep(0.08)
            data = greeted(data, writer)
            writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()
        ended.set()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = new_store(f"redis://127.0.0.1:{port}/0", redis_prefix, timeout_ms=100)
    try:
        with pytest.raises(CacheUnavailable, match="100 ms"):
            await store.get(KEY)  # connecting and sending are two steps
    finally:
        await store.close()
        await ended.wait()
        server.close()
        await server.wait_closed()


async def test_a_connection_that_the_server_closed_while_idle_is_not_a_failure(
    redis_url, redis_prefix, store
):
    reader = new_store(redis_url, redis_prefix, application="closed-meanwhile")
    await store.publish(KEY, link(1))
    assert await reader.get(KEY) == link(1)
    clients = await store._client.client_list()
    (connection,) = [each["id"] for each in clients if each["name"] == "closed-meanwhile"]
    await store._client.client_kill_filter(_id=connection)
    assert await reader.get(KEY) == link(1)
    assert reader.last_error == ""
    await reader.close()


async def test_a_late_reply_is_never_given_to_another_call(redis_prefix):
    """A lookup times out before its reply arrives; the next lookup must not read that reply."""
    asked = 0
    late = asyncio.Event()

    async def serve(reader, writer):
        nonlocal asked
        while data := await reader.read(65536):
            data = greeted(data, writer)
            if b"MGET" not in data:
                writer.write(b"+OK\r\n" * data.count(b"*"))
                continue
            asked += 1
            value = encode_record(link(asked))
            if asked == 1:
                await late.wait()
            writer.write(b"*1\r\n$%d\r\n%s\r\n" % (len(value), value))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = new_store(f"redis://127.0.0.1:{port}/0", redis_prefix, timeout_ms=100)
    try:
        with pytest.raises(CacheUnavailable, match="100 ms"):
            await store.get(KEY)
        late.set()
        assert await store.get(KEY) == link(2)
        assert await store.get(KEY) == link(3)
    finally:
        late.set()
        await store.close()
        server.close()
        await server.wait_closed()


async def test_a_full_server_is_unavailable_and_does_not_open_the_breaker(
    server_folder, redis_prefix
):
    from shortctl.embedded import EmbeddedValkey  # noqa: PLC0415  # only this test starts one

    valkey = EmbeddedValkey(
        server_folder / "valkey", options={"maxmemory": "1", "maxmemory-policy": "noeviction"}
    )
    valkey.start()
    store = new_store(valkey.url, redis_prefix)
    try:
        with pytest.raises(CacheUnavailable, match=r"(?i)memory"):
            await store.publish(KEY, link(1))
        with pytest.raises(CacheUnavailable, match=r"(?i)memory"):
            await store.publish_many([(KEY, link(1)), (KEY, link(2))], read_at_ms=now_ms())
        assert await store.get(KEY) is None
    finally:
        await store.close()
        valkey.stop()


async def test_a_cancellation_that_redis_py_swallows_is_raised(store):
    asking = asyncio.Event()

    async def swallowing():
        asking.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "an answer"

    task = asyncio.create_task(store.call(swallowing))
    await asking.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_burst_of_calls_does_not_look_like_a_redis_that_is_down(redis_url, redis_prefix):
    store = new_store(redis_url, redis_prefix, timeout_ms=100, pool_size=1)

    pool = store._client.connection_pool
    assert await store.call(store._client.ping)

    async def slow():
        connection = await pool.get_connection()
        try:
            await connection.send_command("PING")
            await connection.read_response()
            await asyncio.sleep(0.06)
        finally:
            await pool.release(connection)

    burst = [store.call(slow) for _ in range(7)]
    outcomes = await asyncio.gather(*burst, return_exceptions=True)
    assert outcomes[0] is None
    assert sum(isinstance(each, CacheUnavailable) for each in outcomes) > 3  # the breaker's limit
    assert store.breaker.opened_total == 0
    await store.close()
