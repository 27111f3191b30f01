"""A redirector in the test's own loop over real servers, its clock in the test's hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from harness.clock import Clock
from harness.tables import HOST, Table, open_table
from harness.waiting import until_async

from redirector.container import Redirector, open_redirector
from redirector.http.asgi import application
from shortcore.settings.redirector import RedirectorSettings

SECRET = "0123456789abcdef0123456789abcdef"  # of the tests only
NO_REDIS = "redis://127.0.0.1:1"


@dataclass
class Running:
    """A started redirector and a client of its ASGI application."""

    redirector: Redirector
    http: httpx.AsyncClient

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    def count(self, layer: str, result: str) -> int:
        counts = self.redirector.counts
        return counts.values[counts.lookup(layer, result)]


Run = Callable[..., Awaitable[Running]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[Table]:
    async with open_table(database_url) as table:
        yield table


@pytest.fixture
async def run(
    database_url: str, redis_url: str, redis_prefix: str, clock: Clock
) -> AsyncIterator[Run]:
    """A function that starts a redirector; settings and clocks may be given by name."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            seconds: Callable[[], float] = clock,
            now_ms: Callable[[], int] = clock.now_ms,
            **settings: Any,
        ) -> Running:
            redirector = await open_redirector(
                RedirectorSettings(
                    **{
                        "postgres_url": database_url,
                        "redis_url": redis_url,
                        "redis_prefix": redis_prefix,
                        "default_domain": HOST,
                        "code_secret": SECRET,
                        "redis_timeout_ms": 1000,
                        "postgres_timeout_ms": 20_000,
                        # They would be offered to nobody for a while at each end, which
                        # test_click_capture.py is about.
                        "clicks_enabled": settings.get("redis_url") != NO_REDIS,
                    }
                    | settings
                ),
                clock=seconds,
                now_ms=now_ms,
            )
            stack.push_async_callback(redirector.close)
            await redirector.start()
            if "redis_url" not in settings:
                # The first thing that the feed does is to let everything local expire.
                feed = redirector.invalidation
                await until_async(lambda: feed.connected, "the change feed is followed")
            transport = httpx.ASGITransport(application(redirector), client=("192.0.2.9", 1))  # type: ignore[arg-type]  # httpx names the same types its own way
            http = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")
            await stack.enter_async_context(http)
            return Running(redirector, http)

        yield start
