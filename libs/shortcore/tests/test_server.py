"""The end of a server: what has reached its port is answered."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from harness.waiting import until_async

from shortcore.runtime.server import UvicornServer

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
"""The event loops of the services; uvloop runs timers before it polls for I/O."""


async def ok(scope, receive, send):
    headers = [(b"content-length", b"2"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[UvicornServer]:
    server = UvicornServer(ok, "127.0.0.1", 0, interface="asgi3")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def response(sock: socket.socket) -> bytes:
    with sock, sock.makefile("rb") as stream:
        return stream.read()


def run(loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_backlog_is_served_after_the_end_of_new_connections(loop) -> None:
    async def work() -> None:
        async with running() as server, contextlib.AsyncExitStack() as stack:
            port = server.port
            # Only the kernel accepts them.
            clients = [stack.enter_context(connect(port)) for _ in range(50)]
            for client in clients[:25]:
                client.sendall(REQUEST)
            await server.stop_accepting()
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            for client in clients[25:]:
                client.sendall(REQUEST)
            responses = [await asyncio.to_thread(response, client) for client in clients]
            assert [each[:15] for each in responses] == [b"HTTP/1.1 200 OK"] * 50
            assert not server.connected

    run(loop, work)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_that_arrives_during_a_stall_is_answered_before_the_connections_are_closed(
    loop,
) -> None:
    """uvicorn's timer, which closes them, and the request are then due at the same time."""

    async def work() -> None:
        async with running() as server:
            with connect(server.port) as client, connect(server.port) as other:
                await until_async(lambda: server.connections.count == 2, "both are accepted")
                stopping = asyncio.create_task(server.stop(5))
                await asyncio.sleep(0)

                def stall() -> None:
                    asyncio.get_running_loop().remove_reader(sender)
                    client.sendall(REQUEST)
                    time.sleep(0.3)

                sender, receiver = socket.socketpair()
                with sender, receiver:
                    asyncio.get_running_loop().add_reader(sender, stall)
                    receiver.send(b"x")  # the event loop handles it when it polls, after the timers
                    await stopping
                assert response(other) == b""
                assert response(client).startswith(b"HTTP/1.1 200 OK")

    run(loop, work)
