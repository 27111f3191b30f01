"""A tiny round-robin in front of several parts, as a Service of Kubernetes is one.

Connections, not requests, are spread: one that is open stays with its part while that drains,
and a new one goes to a part that was ready when last asked.
"""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

import httpx

from harness.stack import Part

PROBE_EVERY_S = 0.1


class Balancer:
    """Listens at `url`; a part that is not ready gets no new connections."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._ready: list[Part] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._turn = itertools.count()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()  # which ends the tasks that serve them
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        async with httpx.AsyncClient(timeout=1, trust_env=False) as probe:
            await self._probe(probe)
            async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
                self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                self._started.set()
                while True:
                    await asyncio.sleep(PROBE_EVERY_S)
                    await self._probe(probe)

    async def _probe(self, probe: httpx.AsyncClient) -> None:
        ready = []
        for part in self._parts:
            try:
                answer = await probe.get(f"{part.admin_url}/readyz")
            except httpx.TransportError:
                continue
            if answer.status_code == httpx.codes.OK:
                ready.append(part)
        self._ready = ready

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            part = self._ready[next(self._turn) % len(self._ready)]
            address = urlsplit(part.url)
            answers, upstream = await asyncio.open_connection(address.hostname, address.port)
            self._writers.add(upstream)
            await asyncio.gather(_pump(reader, upstream), _pump(answers, writer))
        except (OSError, ZeroDivisionError):
            writer.transport.abort()  # nobody there: the client sees a cut connection
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()
