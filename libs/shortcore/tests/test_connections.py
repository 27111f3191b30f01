"""Limits and deadlines of connections: real sockets against a real server."""

import asyncio
import contextlib
import resource
import time
from dataclasses import dataclass

import pytest
import structlog
from harness.stopwatch import Stopwatch
from harness.waiting import until_async
from prometheus_client import CollectorRegistry

from shortcore.errors import ConfigurationError
from shortcore.http import connection_limits
from shortcore.http.connection_limits import Limits, public_limits
from shortcore.http.connection_metrics import ConnectionMetrics, Reason, Refusals
from shortcore.http.connections import Connections
from shortcore.http.networks import Networks, client_of
from shortcore.runtime.server import UvicornServer
from shortcore.settings.connections import ConnectionSettings

BIG = 16 * 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

QUICK = {"head_s": 0.4, "body_grace_s": 0.4, "write_s": 0.4, "idle_s": 0.4, "bytes_per_s": 200}
PATIENT = {"head_s": 30.0, "body_grace_s": 30.0, "write_s": 30.0, "idle_s": 30.0}


async def app(scope, receive, send):
    """Respond with the length of the body, 16 MiB for /big, and after a second for /slow."""
    length = 0
    while (message := await receive())["type"] == "http.request":
        length += len(message["body"])
        if not message["more_body"]:
            break
    else:
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    body = bytes(BIG) if scope["path"] == "/big" else str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Serving:
    """A server in the test's own loop."""

    port: int
    connections: Connections
    registry: CollectorRegistry

    def ended(self, reason):
        labels = {"listener": "public", "reason": reason}
        return self.registry.get_sample_value("shortlinks_connections_ended_total", labels)

    def open(self):
        return self.registry.get_sample_value("shortlinks_connections_open", {"listener": "public"})

    def incomplete(self):
        return self.registry.get_sample_value(
            "shortlinks_incomplete_requests_bytes", {"listener": "public"}
        )

    @contextlib.asynccontextmanager
    async def connected(self, host="127.0.0.1", **options):
        reader, writer = await asyncio.open_connection(host, self.port, **options)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def answers(self):
        """Return whether a new client is served."""
        async with self.connected() as (reader, writer):
            writer.write(GET)
            try:
                return (await ended(reader, b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
            except ConnectionResetError:
                return False


@pytest.fixture
async def serve():
    async with contextlib.AsyncExitStack() as stack:

        async def start(trusted=(), **limits):
            registry = CollectorRegistry()
            connections = Connections(
                Limits(**limits),
                trusted=Networks(trusted, "TEST"),
                metrics=ConnectionMetrics(registry),
            )
            server = UvicornServer(app, "127.0.0.1", 0, connections=connections)
            await server.start()
            stack.push_async_callback(server.stop, 1)
            return Serving(server.port, connections, registry)

        yield start


@pytest.fixture
def logged():
    with structlog.testing.capture_logs() as lines:
        yield lambda: [
            line["reason"] for line in lines if line["event"] == "connection ended for a limit"
        ]


async def ended(reader, until=b""):
    """Return the bytes up to `until`, or until the server closes."""
    got = b""
    async with asyncio.timeout(30):
        while not (until and until in got):
            part = await reader.read(65_536)
            if not part:
                break
            got += part
    return got


async def trickle(writer, data, every_s):
    """Send a byte at a time until the connection is lost."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every_s)


async def test_a_silent_connection_is_closed_without_an_answer(serve, logged):
    served = await serve(**PATIENT | {"head_s": 0.4})
    async with served.connected() as (reader, _):
        with Stopwatch() as took:
            assert await ended(reader) == b""
        assert took.wall_s > 0.3
        assert took.seconds < 3
    assert served.ended("silent") == 1
    assert logged() == ["silent"]


@pytest.mark.parametrize(
    "sent",
    [b"GE", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-Y: "],
)
async def test_an_incomplete_head_is_answered_408(serve, logged, sent):
    served = await serve(**PATIENT | {"head_s": 0.4})
    async with served.connected() as (reader, writer):
        writer.write(sent)
        answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert served.ended("head_timeout") == 1
    assert logged() == ["head_timeout"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Y: z\r\n" * 1000, id="fields"),
        pytest.param(b"\r\n" * 1000, id="blank lines"),
    ],
)
async def test_a_head_that_trickles_has_the_same_deadline(serve, sent):
    served = await serve(**PATIENT | {"head_s": 0.5})
    async with served.connected() as (reader, writer):
        trickling = asyncio.create_task(trickle(writer, sent, 0.05))
        with Stopwatch() as took, contextlib.suppress(ConnectionResetError):
            await ended(reader)
        assert took.seconds < 5
        await trickling
    assert served.ended("head_timeout") == 1


async def test_a_later_request_has_its_own_deadline_from_its_first_byte(serve):
    served = await serve(**PATIENT | {"head_s": 0.5})
    async with served.connected() as (reader, writer):
        writer.write(GET)
        await ended(reader, b"\r\n\r\n0")
        await asyncio.sleep(1.5)  # idle, which has a deadline of 30 s here
        writer.write(GET)
        assert b" 200 " in await ended(reader, b"\r\n\r\n0")
        await asyncio.sleep(1)
        writer.write(GET[:10])
        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
    assert served.ended("head_timeout") == 1


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("sent", [POST, POST + b"x" * 500, CHUNKED, CHUNKED + b"5\r\nhello\r\n"])
async def test_a_body_that_stalls_is_answered_408(serve, logged, sent):
    served = await serve(**PATIENT | {"body_grace_s": 0.4, "bytes_per_s": 2000})
    async with served.connected() as (reader, writer):
        writer.write(sent)
        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
    assert served.ended("body_timeout") == 1
    assert logged() == ["body_timeout"]


async def test_a_body_that_trickles_is_answered_408(serve):
    served = await serve(**PATIENT | {"body_grace_s": 0.4, "bytes_per_s": 200})
    async with served.connected() as (reader, writer):
        writer.write(POST)
        trickling = asyncio.create_task(trickle(writer, b"x" * 1000, 0.05))
        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
        await trickling
    assert served.ended("body_timeout") == 1


async def test_a_body_that_began_fast_and_stalls_is_answered_408(serve):
    served = await serve(**PATIENT | {"body_grace_s": 0.4, "bytes_per_s": 200})
    head = POST.replace(b"1000", b"100000000")
    async with served.connected() as (reader, writer):
        writer.write(head + b"x" * 1_000_000)
        with Stopwatch() as took:
            assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
        assert took.seconds < 5
    assert served.ended("body_timeout") == 1


@pytest.mark.parametrize("sent", [b"GET / HT", POST])
async def test_a_client_that_was_too_slow_does_not_keep_its_connection(serve, sent):
    served = await serve(**PATIENT | {"head_s": 0.4, "body_grace_s": 0.4, "bytes_per_s": 2000})
    async with served.connected() as (reader, writer):
        writer.write(sent)
        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
        trickling = asyncio.create_task(trickle(writer, b"x" * 1000, 0.05))  # it does not close
        with Stopwatch() as took:
            await until_async(lambda: served.open() == 0, "no connection is open")
        assert took.seconds < 2
        await trickling


HEAD_OF_60_KB = b"GET / HTTP/1.1\r\nHost: a\r\nX-Y: " + b"z" * 60_000
FIELDS = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:b\r\n" * 300
"""1.5 KB, which the parser turns into 300 times as many bytes as a field takes."""
BODY_OF_60_KB = POST.replace(b"1000", b"60010") + b"x" * 60_000


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        pytest.param((HEAD_OF_60_KB,), b"\r\n\r\n", id="head"),
        pytest.param((HEAD_OF_60_KB[:40_000], HEAD_OF_60_KB[40_000:]), b"\r\n\r\n", id="pieces"),
        pytest.param((FIELDS,), b"\r\n", id="fields"),
        pytest.param((BODY_OF_60_KB,), b"x" * 10, id="body"),
        pytest.param((BODY_OF_60_KB[:100], BODY_OF_60_KB[100:]), b"x" * 10, id="later body"),
    ],
)
async def test_the_bytes_of_all_incomplete_requests_are_bounded(serve, logged, sent, rest):
    served = await serve(**PATIENT | {"incomplete_bytes": 200_000})
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(served.connected()) for _ in range(6)]
        for number, (_, writer) in enumerate(clients):
            for piece in sent:
                before = served.incomplete(), served.ended("incomplete_limit")
                writer.write(piece)
                await until_async(
                    lambda before=before: (
                        (served.incomplete(), served.ended("incomplete_limit")) != before
                    ),
                    "the server has counted the piece",
                )
            assert served.ended("incomplete_limit") == max(0, number - 2)
        assert 150_000 < served.incomplete() <= 200_000
        for reader, _ in clients[:3]:  # those that began first
            assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
        assert await served.answers(), "a request that is complete at once is served"
        for reader, writer in clients[3:]:
            writer.write(rest)
            assert b" 200 " in await ended(reader, b"\r\n\r\n")
        assert served.incomplete() == 0
    assert logged() == ["incomplete_limit"]


async def test_an_incomplete_request_is_not_counted_after_its_connection_is_lost(serve):
    served = await serve(**PATIENT)
    for _ in range(3):
        async with served.connected() as (_, writer):
            writer.write(HEAD_OF_60_KB)
            await until_async(
                lambda: served.incomplete() > 60_000, "the server has read the request"
            )
        await until_async(lambda: served.incomplete() == 0, "the request is forgotten")


async def test_a_single_incomplete_request_is_not_ended_for_the_common_bound(serve):
    served = await serve(**PATIENT | {"incomplete_bytes": 1000})
    async with served.connected() as (reader, writer):
        writer.write(BODY_OF_60_KB)
        await until_async(lambda: served.incomplete() > 60_000, "the server has read the request")
        writer.write(b"x" * 10)
        assert b" 200 " in await ended(reader, b"\r\n\r\n60010")


async def test_a_body_at_the_minimum_rate_is_read_to_its_end(serve):
    served = await serve(**PATIENT | {"body_grace_s": 0.4, "bytes_per_s": 200})
    async with served.connected() as (reader, writer):
        writer.write(POST)
        for _ in range(20):
            writer.write(b"x" * 50)
            await asyncio.sleep(0.1)
        answer = await ended(reader, b"\r\n\r\n1000")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert served.ended("body_timeout") == 0


async def test_a_slow_response_of_the_application_does_not_end_the_connection(serve):
    served = await serve(**QUICK)
    async with served.connected() as (reader, writer):
        writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in await ended(reader, b"\r\n\r\n0")


async def test_a_response_that_nobody_reads_is_cut(serve, logged):
    served = await serve(**PATIENT | {"write_s": 0.5})
    async with served.connected(limit=1024) as (_, writer):
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        await until_async(
            lambda: served.ended("write_timeout"), "the write timeout ends the connection"
        )
        await until_async(lambda: served.open() == 0, "no connection is open")
    assert logged() == ["write_timeout"]


async def test_a_response_that_nobody_reads_is_cut_after_the_connection_was_closed(serve):
    served = await serve(**PATIENT | {"write_s": 0.5})
    async with served.connected(limit=1024) as (_, writer):
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until_async(
            lambda: served.ended("write_timeout"), "the write timeout ends the connection"
        )
        await until_async(lambda: served.open() == 0, "no connection is open")


async def test_a_client_that_reads_slowly_gets_the_whole_response(serve):
    # It takes 400 KB/s. The kernel alone would hold what it takes in 4 s, and take nothing meanwhile.
    served = await serve(**PATIENT | {"write_s": 2.0, "bytes_per_s": 50_000})
    async with served.connected(limit=16_384) as (reader, writer):
        writer.write(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 9:
            got += len(await reader.read(16_384))
            await asyncio.sleep(0.04)
        got += len(await reader.readexactly(BIG - got))
    assert served.ended("write_timeout") == 0


async def test_an_idle_connection_is_closed_and_not_logged(serve, logged):
    served = await serve(**PATIENT | {"idle_s": 0.4})
    async with served.connected() as (reader, writer):
        writer.write(GET)
        with Stopwatch() as took:
            assert (await ended(reader)).endswith(b"\r\n\r\n0")
        assert took.wall_s > 0.3
        assert took.seconds < 3
    assert served.ended("idle") == 1
    assert logged() == []


async def test_the_rest_of_a_body_is_not_taken_for_the_start_of_a_head(serve):
    serving = await serve(**PATIENT | {"head_s": 0.4})
    async with serving.connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        await asyncio.sleep(0.3)  # the connection is checked meanwhile
        writer.write(b"cde")
        await ended(reader, b"\r\n\r\n5")
        await asyncio.sleep(1)  # idle
        writer.write(GET)
        assert (await ended(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert serving.ended("head_timeout") == 0


async def test_a_busy_connection_is_never_ended(serve):
    served = await serve(**QUICK)
    async with served.connected() as (reader, writer):
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            writer.write(GET)
            assert b" 200 " in await ended(reader, b"\r\n\r\n0")
            await asyncio.sleep(0.05)
        while time.monotonic() - began < 5:  # each request comes in two pieces
            writer.write(GET[:10])
            await asyncio.sleep(0.05)
            writer.write(GET[10:])
            assert b" 200 " in await ended(reader, b"\r\n\r\n0")
    assert sum(served.ended(reason.value) for reason in Reason) == 0


async def test_connections_beyond_the_limit_of_the_process_are_closed(serve, logged):
    served = await serve(connections=5, **PATIENT)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            reader, writer = await stack.enter_async_context(served.connected())
            writer.write(GET)
            await ended(reader, b"\r\n\r\n0")
        for _ in range(3):
            assert not await served.answers()
        assert served.open() == 5
        writer.write(GET)  # open connections are served
        assert b" 200 " in await ended(reader, b"\r\n\r\n0")
    await until_async(lambda: served.open() == 0, "no connection is open")
    assert await served.answers()
    assert served.ended("process_limit") == 3
    assert logged() == ["process_limit"]


async def test_silent_connections_make_room_for_a_client(serve):
    served = await serve(connections=20, **PATIENT)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(served.connected())
        await until_async(lambda: served.open() == 20, "20 connections are open")
        await asyncio.sleep(2.5)  # they have been silent for more than a sweep
        assert await served.answers()
    assert served.ended("silent") == 1
    assert served.ended("process_limit") == 0


async def test_connections_beyond_the_limit_of_an_address_are_closed(serve, logged):
    served = await serve(per_address=3, **PATIENT)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(served.connected())
        await until_async(lambda: served.open() == 3, "3 connections are open")
        assert not await served.answers()
        other = served.connected(local_addr=("127.0.0.2", 0))
        reader, writer = await stack.enter_async_context(other)
        writer.write(GET)
        assert b" 200 " in await ended(reader, b"\r\n\r\n0")
    await until_async(lambda: served.open() == 0, "no connection is open")
    assert await served.answers()
    assert served.ended("address_limit") == 1
    assert logged() == ["address_limit"]


async def test_a_trusted_proxy_has_no_limit_per_address(serve):
    served = await serve(per_address=3, trusted=["127.0.0.0/8"], **PATIENT)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(served.connected())
        await until_async(lambda: served.open() == 10, "10 connections are open")
        assert await served.answers()


async def test_counts_are_right_after_resets_and_floods(serve):
    served = await serve(connections=50, per_address=40, **PATIENT)
    for _ in range(10):
        pairs = await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", served.port) for _ in range(80))
        )
        for place, (_, writer) in enumerate(pairs):
            if place % 2:
                writer.write(b"GET / HTT")
            writer.transport.abort()
    await until_async(lambda: served.open() == 0, "no connection is open")
    assert served.connections._of_client == {}
    assert not any(served.connections._parts)
    assert await served.answers()


async def test_no_timer_runs_while_no_connection_is_open(serve):
    served = await serve(**QUICK)
    assert served.connections._timer is None
    async with served.connected() as (reader, _):
        await until_async(lambda: served.connections._timer is not None, "the timer runs")
        await ended(reader)
    await until_async(lambda: served.connections._timer is None, "the timer has stopped")


def test_an_ipv6_client_is_its_64_bit_network():
    assert client_of("192.0.2.1") == "192.0.2.1"
    assert client_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1")
    assert client_of("2001:db8::1") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == client_of("fe80::2%eth0")


def test_networks_contain_addresses_in_every_form():
    networks = Networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"], "TEST")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5", "192.0.2.1"):
        assert networks.hold(address)
    for address in ("11.0.0.1", "::1", "192.0.2.2", "", "unix"):
        assert not networks.hold(address)
    with pytest.raises(ConfigurationError, match="TEST"):
        Networks(["nonsense"], "TEST")


def test_one_log_line_per_minute_counts_the_ended_connections():
    now = [0.0]
    refusals = Refusals("public", lambda: now[0])
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            refusals.note(Reason.SILENT, "192.0.2.1")
        refusals.note(Reason.ADDRESS_LIMIT, "192.0.2.2")
        now[0] = 61.0
        refusals.note(Reason.SILENT, "192.0.2.3")
    assert [(line["reason"], line["since_last_line"]) for line in lines] == [
        ("silent", 1), ("address_limit", 1), ("silent", 100),
    ]  # fmt: skip


def test_the_public_port_leaves_the_reserve_of_file_descriptors_free(monkeypatch):
    limits = [100, 600]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.__setitem__(0, both[0]))
    settings = ConnectionSettings(file_descriptors_reserved=100, admin_connections_max=50)
    with structlog.testing.capture_logs() as lines:
        assert public_limits(settings).connections == 450
    assert limits[0] == 600, "the process raises its own limit as far as it may"
    assert [line["effective"] for line in lines] == [450]
    limits[1] = limits[0] = 150
    with pytest.raises(ConfigurationError, match="FILE_DESCRIPTORS_RESERVED"):
        public_limits(settings)
    assert connection_limits.admin_limits(settings).connections == 50
