"""Floods of connections: a good client is served meanwhile, and the memory stays bounded."""

import asyncio
import contextlib
import logging
import resource
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.waiting import until_async

MIB = 1024 * 1024
GET = b"GET /abc HTTP/1.1\r\nHost: localhost\r\n\r\n"
ATTACKER = ("127.0.0.2", 0)  # no trusted proxy
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset
SETTINGS = {
    "CONNECTION_HEAD_TIMEOUT_MS": "3000",
    "CONNECTION_BODY_GRACE_MS": "3000",
    "CONNECTION_WRITE_TIMEOUT_MS": "3000",
}


class Visitor(threading.Thread):
    """A good client: one request after the other, each over a connection of its own."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._end = threading.Event()
        self.times: list[float] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._end.wait(0.05):
            began = time.perf_counter()
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=5) as sock:
                    sock.sendall(GET)
                    line = sock.recv(1024).partition(b"\r\n")[0]
                if b" 302 " not in line:
                    self.failures.append(repr(line))
            except OSError as error:  # TimeoutError is one
                self.failures.append(repr(error))
            self.times.append(time.perf_counter() - began)

    def finish(self) -> None:
        self._end.set()
        self.join()


@contextlib.asynccontextmanager
async def visited(part: Part) -> AsyncIterator[tuple[Visitor, int]]:
    """Give a good client's record and the port, and check the record at the end."""
    port = urlsplit(part.url).port
    assert port is not None
    for _ in range(5):  # the link is in the local cache then
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(GET)
            sock.recv(1024)
    before = part.memory()
    visitor = Visitor(port)
    visitor.start()
    yield visitor, port
    visitor.finish()
    grown = (part.memory() - before) / MIB
    figures = f"{max(visitor.times):.3f} s at most, {grown:.0f} MiB more"
    logging.getLogger(__name__).info("%d requests, %s", len(visitor.times), figures)
    assert not visitor.failures
    assert len(visitor.times) > 20, figures
    assert grown < 100, figures
    assert part.ask("/livez")[0] == 200


async def attack(port: int, lines: list[bytes], every_s: float, ends_at: float) -> None:
    """Keep one connection open until a time: sends `lines`, connects again when it is ended."""
    while time.monotonic() < ends_at:
        try:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            sock.bind(ATTACKER)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a real socket's has it
        with contextlib.suppress(ConnectionError):
            for line in lines:
                writer.write(line)
                await asyncio.sleep(every_s)
                if writer.is_closing() or time.monotonic() > ends_at:
                    break
            else:
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(), max(0.1, ends_at - time.monotonic()))
        writer.transport.abort()
        await asyncio.sleep(0.05)


@pytest.fixture(params=["direct", "asgi"])
async def redirector(
    request: pytest.FixtureRequest, server_folder: Path, database_url: str, redis_url: str
) -> AsyncIterator[Part]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Stack(server_folder, database_url, redis_url, SETTINGS) as stack:
        writer = stack.writer()
        with stack.api(writer) as api:
            body = {"target": "https://target.example/", "code": "abc"}
            api.post("/api/v1/links", json=body).raise_for_status()
        yield stack.redirector(
            REDIRECTOR_SERVER=str(request.param), CONNECTIONS_PER_ADDRESS_MAX="0"
        )


async def test_five_thousand_silent_connections(redirector: Part) -> None:
    async with visited(redirector) as (_, port):
        ends_at = time.monotonic() + 15
        await asyncio.gather(*(attack(port, [], 0, ends_at) for _ in range(5000)))
    name = 'shortlinks_connections_ended_total{listener="public",reason="silent"}'
    assert redirector.metric(name) >= 5000


async def test_silent_connections_beyond_the_limit(
    server_folder: Path, database_url: str, redis_url: str
) -> None:
    with Stack(server_folder, database_url, redis_url, {"CONNECTIONS_MAX": "500"}) as stack:
        with stack.api(stack.writer()) as api:
            body = {"target": "https://target.example/", "code": "abc"}
            api.post("/api/v1/links", json=body).raise_for_status()
        part = stack.redirector(CONNECTIONS_PER_ADDRESS_MAX="0")
        ends_at = time.monotonic() + 12
        async with visited(part) as (visitor, port):
            silent = asyncio.gather(*(attack(port, [], 0, ends_at) for _ in range(500)))
            await asyncio.sleep(2.5)
            visitor.times.clear()
            visitor.failures.clear()  # until the first of them have been silent for a second
            await silent


async def test_slowloris_slow_bodies_and_slow_readers_together(redirector: Part) -> None:
    head = [b"GET /abc HTTP/1.1\r\n", *[b"X-Filler: abcdefgh\r\n"] * 100]
    long_head = [b"GET /abc HTTP/1.1\r\n", *[b"X-Filler: " + b"a" * 4000 + b"\r\n"] * 100]
    body = [
        b"POST /abc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
        *[b"x"] * 100,
    ]
    reader = [GET * 20] * 300
    async with visited(redirector) as (_, port):
        ends_at = time.monotonic() + 15
        await asyncio.gather(
            *(attack(port, head, 0.5, ends_at) for _ in range(1000)),
            *(attack(port, long_head, 0.5, ends_at) for _ in range(300)),
            *(attack(port, body, 0.5, ends_at) for _ in range(500)),
            *(attack(port, reader, 0.02, ends_at) for _ in range(50)),
        )
    for reason in ("head_timeout", "body_timeout"):
        name = f'shortlinks_connections_ended_total{{listener="public",reason="{reason}"}}'
        assert redirector.metric(name) > 0, reason

    await until_all_are_closed(redirector)


async def test_a_flood_of_resets(redirector: Part) -> None:
    async def resets(port: int, ends_at: float) -> None:
        loop = asyncio.get_running_loop()
        while time.monotonic() < ends_at:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.setblocking(False)
                sock.bind(ATTACKER)
                await loop.sock_connect(sock, ("127.0.0.1", port))
                await loop.sock_sendall(sock, GET[: 7 + time.monotonic_ns() % 40])
            await asyncio.sleep(0)

    async with visited(redirector) as (_, port):
        ends_at = time.monotonic() + 8
        await asyncio.gather(*(resets(port, ends_at) for _ in range(20)))
    await until_all_are_closed(redirector)


async def until_all_are_closed(redirector: Part) -> None:
    open_now = 'shortlinks_connections_open{listener="public"}'
    await until_async(lambda: redirector.metric(open_now) == 0, "no connection is open")
