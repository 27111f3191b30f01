"""A TCP proxy between a service and a server that can cut, slow, black-hole or garble the wire."""

import asyncio
import enum
import itertools
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


class Mode(enum.Enum):
    """What happens to the bytes; a change applies to open connections, too."""

    PASS = "pass"
    BLACK_HOLE = "black hole"
    """Connections are accepted, bytes are read, nothing is ever answered."""
    REFUSE = "refuse"
    """Open connections are reset, new ones closed at once."""
    GARBAGE = "garbage"
    """The server's answers are replaced by bytes of no protocol."""


class Proxy:
    """Listens on a loopback port and forwards to `url`'s address; runs in a thread of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._mode = Mode.PASS
        self._delay_s = 0.0
        self._numbers = itertools.count(1)
        self._forgotten = 0
        self._cut_after = b""
        self._cuts = 0
        self._unanswered: set[int] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = parts._replace(
            netloc=f"{parts.netloc.rpartition('@')[0]}{'@' if '@' in parts.netloc else ''}"
            f"127.0.0.1:{self.port}"
        ).geturl()

    def set(self, mode: Mode, *, delay_ms: float = 0) -> None:
        """Change what happens from now on; `delay_ms` holds every answer back that long."""
        self._mode = mode
        self._delay_s = delay_ms / 1000
        if mode in (Mode.REFUSE, Mode.PASS):
            # A connection that lost bytes is broken for good: its ends must see that.
            self._run(self._reset())

    def forget(self) -> None:
        """Let the open connections fall silent for good, without an end; new ones pass."""
        self._forgotten = next(self._numbers)

    def cut_answers_to(self, request: bytes, times: int = 1) -> None:
        """Forward the next requests with these bytes, and cut the connection at the answer."""
        self._cut_after, self._cuts = request, times

    @property
    def cuts_left(self) -> int:
        """How many answers are still to be cut."""
        return self._cuts

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._server.close()
        self._run(self._reset())
        self._run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.REFUSE:
            writer.transport.abort()
            return
        self._writers.add(writer)
        number = next(self._numbers)
        upstream: asyncio.StreamWriter | None = None
        try:
            from_server, upstream = await asyncio.open_connection(*self._target)
            self._writers.add(upstream)
            await asyncio.gather(
                self._pump(number, reader, upstream, answers=False),
                self._pump(number, from_server, writer, answers=True),
            )
        except OSError:
            writer.transport.abort()
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pump(
        self,
        number: int,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        while data := await source.read(65536):
            if self._mode is Mode.BLACK_HOLE or number < self._forgotten:
                continue
            if answers and number in self._unanswered:
                raise ConnectionResetError
            if not answers and self._cuts and self._cut_after in data:
                self._cuts -= 1
                self._unanswered.add(number)
            if answers and self._mode is Mode.GARBAGE:
                data = b"\x00\xff!garbage\r\n" * 3
            if answers and self._delay_s:
                await asyncio.sleep(self._delay_s)
            sink.write(data)
            await sink.drain()
        sink.transport.abort()
