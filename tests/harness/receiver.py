"""A receiver of webhooks: a real HTTP server that answers well, badly, slowly or not at all."""

import asyncio
import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from standardwebhooks import Webhook


class Manner(enum.Enum):
    """How the receiver answers; a change applies to the next request."""

    ACCEPT = "204"
    FAIL = "500"
    GONE = "410"
    BUSY = "429 with Retry-After"
    REDIRECT = "302 to a private address"
    HANG = "never answers"
    RESET = "resets the connection"
    SLOW_HEAD = "sends a head byte by byte, for ever"
    ENDLESS_HEAD = "sends header lines for ever"
    ENDLESS_BODY = "200 and a body without an end"
    GARBAGE = "no HTTP"


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> dict[str, object]:
        """Return the JSON of the body; raises WebhookVerificationError."""
        verified: dict[str, object] = Webhook(secret).verify(self.body, dict(self.headers))
        return verified


_ANSWERS = {
    Manner.ACCEPT: b"HTTP/1.1 204 No Content\r\n\r\n",
    Manner.FAIL: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    Manner.GONE: b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    Manner.BUSY: b"HTTP/1.1 429 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n",
    Manner.REDIRECT: b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    Manner.ENDLESS_BODY: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    Manner.GARBAGE: b"\x00\xff no http at all\r\n\r\n",
}


class Receiver:
    """Listens on a loopback port, in a thread of its own; `received` has every whole request."""

    def __init__(self, manner: Manner = Manner.ACCEPT) -> None:
        self.manner = manner
        self.received: list[Received] = []
        self.connections = 0
        self._open: dict[asyncio.Task[None], asyncio.WriteTransport] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        # A connection that was just accepted reaches `_accept` in these turns. asyncio would leave its
        # socket open if the server was closed before.
        await _some_turns()
        self._server.close()
        tasks = [*self._open]
        for task, transport in self._open.items():
            transport.abort()  # a task that has not started is cancelled without closing it
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        await _some_turns()  # aborted transports close their sockets in these

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._serve(reader, writer))
        self._open[task] = writer.transport
        task.add_done_callback(self._open.pop)

    @property
    def open(self) -> int:
        """The number of connections that neither end has closed."""
        return len(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other end, or the test, has ended it
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        manner = self.manner
        self.received.append(Received(head[0].split(" ")[1], headers, body))
        if manner is Manner.HANG:
            await asyncio.Event().wait()
        if manner is Manner.RESET:
            writer.transport.abort()
            raise ConnectionError
        if manner in {Manner.SLOW_HEAD, Manner.ENDLESS_HEAD}:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                slow = manner is Manner.SLOW_HEAD
                writer.write(b"x" if slow else b"x-more: " + b"x" * 4000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05 if slow else 0)
        writer.write(_ANSWERS[manner])
        if manner is Manner.ENDLESS_BODY:
            while True:
                writer.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")
                await writer.drain()
        await writer.drain()


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
