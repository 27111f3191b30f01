"""Visitors: keep-alive HTTP/1.1 clients that cost little, so that a load measures the server.

Written by hand because a test must see what a client library hides: a connection that ends
before its answer is a failure here, never a silent second try.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from harness.waiting import until

ANSWER_WITHIN_S = 15
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_NO_BODY = frozenset({204, 304})


class Unanswered(Exception):
    """A request got no whole answer: refused, reset, cut short, or none in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how long it took from the request's first byte."""

    status: int
    head: bytes
    body: bytes
    seconds: float

    def header(self, name: str) -> str:
        found = re.search(rb"\r\n" + name.encode() + rb": *([^\r]*)", self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else ""

    @property
    def location(self) -> str:
        return self.header("location")

    def json(self) -> Any:
        return json.loads(self.body)


class _Wire(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.closed = False
        self.headless = False
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self.waiter is None or self.waiter.done():
            return
        head = self._data[: end + 2]
        status = int(head[9:12])
        length = _LENGTH.search(head)
        bodiless = self.headless or status in _NO_BODY
        size = 0 if bodiless or length is None else int(length[1])
        if len(self._data) < end + 4 + size:
            return
        body = self._data[end + 4 : end + 4 + size]
        self._data = self._data[end + 4 + size :]
        self.waiter.set_result((status, head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(Unanswered(f"the connection ended: {error!r}"))


class Visitor:
    """One client with one connection to the host of `url`, opened again when it was closed."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        named = {"Host": parts.netloc} | dict(headers or {})
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._wire: _Wire | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.abort()
        self._wire = None

    async def connect(self) -> None:
        """Open the connection; raises Unanswered."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                _, self._wire = await loop.create_connection(_Wire, *self._address)
        except (OSError, TimeoutError) as error:
            raise Unanswered(f"no connection: {error!r}") from error

    async def get(self, path: str) -> Answer:
        return await self.request("GET", path)

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; raises Unanswered, and never sends it again."""
        started = time.perf_counter()
        if self._wire is None or self._wire.closed:
            await self.connect()
        wire = self._wire
        assert wire is not None
        assert wire.transport is not None
        lines = self._headers + "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            lines += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        waiter = asyncio.get_running_loop().create_future()
        wire.waiter = waiter
        wire.headless = method == "HEAD"
        wire.transport.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status, head, content = await waiter
        except TimeoutError as error:
            self.close()
            raise Unanswered(f"{method} {path}: nothing in {ANSWER_WITHIN_S} s") from error
        if _CLOSE.search(head):
            self.close()
        return Answer(status, head, content, time.perf_counter() - started)


async def visit(url: str, paths: Iterable[str], *, clients: int = 8) -> list[tuple[str, Answer]]:
    """Get every path with so many clients at once; raises Unanswered if one has no answer."""
    waiting = iter(paths)

    async def client() -> list[tuple[str, Answer]]:
        async with Visitor(url) as visitor:
            return [(path, await visitor.get(path)) for path in waiting]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client()) for _ in range(clients)]
    return [answer for task in tasks for answer in task.result()]


def quantile(seconds: Sequence[float], part: float) -> float:
    """Return the value, in milliseconds, that `part` of them do not exceed (nearest rank)."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000


@dataclass(eq=False)
class Load:
    """Clients that go on and on in a thread of their own, until the block ends.

    `ask` makes one request to `url` and judges its answer; what it raises fails the block,
    except Unanswered: those are kept in `unanswered`.
    """

    urls: Sequence[str]
    ask: Callable[[Visitor, str], Awaitable[Answer]]
    clients: int = 4
    pause_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: int = 0
    unanswered: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _error: BaseException | None = None

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def wait_for(self, answers: int, within_s: float = 60) -> None:
        """Return when so many more answers have come."""
        goal = self.answers + answers

        def reached() -> bool:
            assert self._thread.is_alive(), f"the load ended: {self._error!r}"
            return self.answers >= goal

        until(
            reached, f"{goal} answers have come", within_s, details=lambda: f"{self.answers} came"
        )

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseExceptionGroup as errors:
            self._error = errors.exceptions[0]

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(self.urls[number % len(self.urls)]))

    async def _client(self, url: str) -> None:
        async with Visitor(url, self.headers) as visitor:
            while not self._stopping.is_set():
                try:
                    answer = await self.ask(visitor, url)
                except Unanswered as error:
                    self.unanswered.append(f"{url}: {error}")
                    await asyncio.sleep(0.01)
                    continue
                self.answers += 1
                self.seconds.append(answer.seconds)
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
