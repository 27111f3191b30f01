"""A response arrives even if its client is still sending a body that nobody reads."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from harness.stopwatch import Stopwatch

from shortcore.http import lingering, refusing_protocol
from shortcore.runtime.server import UvicornServer

MIB = 2**20


async def refuse(scope, receive, send):
    """Respond without reading the body."""
    close = [(b"connection", b"close")] if scope["path"] == "/close" else []
    headers = [(b"content-length", b"5"), *close]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"large"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    running = UvicornServer(refuse, "127.0.0.1", 0, interface="asgi3")
    await running.start()
    yield running.port
    await running.stop(1)


def send_then_read(port: int, head: bytes, body_mib: int) -> bytes:
    """Send everything before the first read, as many clients do."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        # The buffer is smaller than the body, so that the client is still sending at the response.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        sock.sendall(head)
        for _ in range(body_mib * 16):
            sock.sendall(b"x" * (MIB // 16))
        answer = b""
        while not answer.endswith((b"large", b"\n")):
            data = sock.recv(65536)
            assert data, answer
            answer += data
        return answer


@pytest.mark.parametrize("path", [b"/keep", b"/close"])
async def test_an_early_response_reaches_a_client_that_sends_its_whole_body_first(
    port: int, path: bytes
) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, 12 * MIB)
    for _ in range(5):
        answer = await asyncio.to_thread(send_then_read, port, head, 12)
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_refusal_reaches_a_client_that_goes_on_sending(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"
    answer = await asyncio.to_thread(send_then_read, port, head, 12)
    assert answer.startswith(b"HTTP/1.1 501")


@pytest.mark.parametrize("path", [b"/keep", b"/close"])
async def test_dropped_bytes_are_bounded_in_size(
    port: int, path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "MAX_DISCARDED", 4 * MIB)
    monkeypatch.setattr(refusing_protocol, "MAX_DISCARDED", 4 * MIB)
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, 100 * MIB)
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(send_then_read, port, head, 90)


async def test_dropped_bytes_are_bounded_in_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /close HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    with Stopwatch() as took:
        assert (await reader.read()).endswith(b"large")
    assert took.seconds < 0.5, "the answer and its end came late"

    async def send_on() -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_on(), 30)
    writer.close()


async def test_a_connection_that_lingers_is_never_read_as_a_request(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /close HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    first = await reader.readuntil(b"large")
    writer.write(b"x" + b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 413")
    assert await reader.read() == b""
    writer.close()
