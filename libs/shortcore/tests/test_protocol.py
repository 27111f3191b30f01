"""A response is sent in one packet, and requests are told when the client disconnects."""

import asyncio

import pytest
import uvicorn

from shortcore.http.joined_writes import JoinedProtocol
from shortcore.http.protocol import BoundedProtocol

HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"4"), (b"x", b"y")],
}


class Written(asyncio.Transport):
    """A transport that keeps each write."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def write_eof(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def get_extra_info(self, *_):
        return None

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def connected(app, protocol_class=JoinedProtocol):
    """Return a connection to `app` and its transport."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", date_header=False)
    config.load()
    protocol = protocol_class(config, uvicorn.server.ServerState(), {})
    transport = Written()
    protocol.connection_made(transport)
    return protocol, transport


async def some_turns():
    for _ in range(20):
        await asyncio.sleep(0)


async def answered(app, request=GET):
    """Return the writes of the response, and whether the connection was closed after it."""
    protocol, transport = connected(app)
    protocol.data_received(request)
    await some_turns()
    return transport.writes, transport.closed


async def test_a_head_and_its_body_are_written_together():
    async def app(scope, receive, send):
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"body"})

    writes, closed = await answered(app)
    assert len(writes) == 1
    assert writes[0].startswith(b"HTTP/1.1 200")
    assert writes[0].endswith(b"x: y\r\n\r\nbody")
    assert not closed


async def test_a_head_is_sent_at_once_if_its_body_is_slow():
    async def app(scope, receive, send):
        await send(HEAD)
        await asyncio.sleep(3600)

    writes, _ = await answered(app)
    assert len(writes) == 1
    assert writes[0].endswith(b"x: y\r\n\r\n")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_held_bytes_are_written_before_the_connection_is_closed(version):
    async def app(scope, receive, send):
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        await send({"type": "http.response.body", "body": b"dy"})

    request = b"GET / HTTP/" + version + b"\r\nHost: a\r\nConnection: close\r\n\r\n"
    writes, closed = await answered(app, request)
    assert b"".join(writes).endswith(b"\r\n\r\nbody")
    assert closed


async def test_a_malformed_request_is_answered_before_the_connection_is_closed():
    writes, closed = await answered(None, b"\x00\r\n\r\n")
    assert b"".join(writes).startswith(b"HTTP/1.1 400")
    assert closed


async def test_a_request_with_others_queued_behind_it_is_told_that_the_client_disconnected():
    messages = []

    async def app(scope, receive, send):
        messages.append((await receive())["type"])
        messages.append((await receive())["type"])

    protocol, transport = connected(app)
    protocol.data_received(GET * 3)
    await some_turns()
    transport.closed = True
    protocol.connection_lost(ConnectionResetError())
    await some_turns()
    assert messages == ["http.request", "http.disconnect"]


async def test_a_response_that_waits_for_the_client_is_not_written_after_the_client_disconnected(
    caplog,
):
    async def app(scope, receive, send):
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"body"})

    protocol, transport = connected(app, BoundedProtocol)
    protocol.pause_writing()
    protocol.data_received(GET * 3)
    await some_turns()
    assert not transport.writes
    transport.closed = True  # a write now raises an error, as with uvloop
    protocol.connection_lost(ConnectionResetError())
    await some_turns()
    assert not caplog.records
