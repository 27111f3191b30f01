"""What uvicorn's protocol is made to do besides: here, to send an answer in one packet."""

import asyncio

import pytest
import uvicorn

from shortcore.protocol import JoinedProtocol

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


async def answered(app, request=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
    """Return the writes of the answer, and whether the connection was closed after it."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", date_header=False)
    config.load()
    protocol = JoinedProtocol(config, uvicorn.server.ServerState(), {})
    transport = Written()
    protocol.connection_made(transport)
    protocol.data_received(request)
    for _ in range(20):
        await asyncio.sleep(0)
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


async def test_a_head_whose_body_takes_its_time_is_not_kept_waiting():
    async def app(scope, receive, send):
        await send(HEAD)
        await asyncio.sleep(3600)

    writes, _ = await answered(app)
    assert len(writes) == 1
    assert writes[0].endswith(b"x: y\r\n\r\n")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_what_is_held_is_written_before_the_connection_is_closed(version):
    async def app(scope, receive, send):
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        await send({"type": "http.response.body", "body": b"dy"})

    request = b"GET / HTTP/" + version + b"\r\nHost: a\r\nConnection: close\r\n\r\n"
    writes, closed = await answered(app, request)
    assert b"".join(writes).endswith(b"\r\n\r\nbody")
    assert closed


async def test_a_request_that_is_none_is_answered_before_the_connection_is_closed():
    writes, closed = await answered(None, b"\x00\r\n\r\n")
    assert b"".join(writes).startswith(b"HTTP/1.1 400")
    assert closed
