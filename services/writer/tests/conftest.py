"""The API with a real PostgreSQL and Valkey, called in the process of the test.

The OpenAPI document must describe every response that a test gets.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
from harness.clock import Clock
from harness.contract import Contract
from harness.relays import Links, RelayInProcess, relay_in_process

from shortcore.settings.writer import WriterSettings
from writer.app.application import create_app
from writer.container import Container, open_container
from writer.keys.service import create_key

SECRET = "a secret for the tests"
HOST = "go.test"


@dataclass(frozen=True)
class Api:
    """The running API: a client with a key, its container, its clock."""

    client: httpx.AsyncClient
    container: Container
    clock: Clock
    key: str

    async def create(self, target: str = "https://example.com/", **fields: Any) -> dict[str, Any]:
        answer = await self.client.post("/api/v1/links", json={"target": target, **fields})
        assert answer.status_code == 201, answer.text
        link: dict[str, Any] = answer.json()
        return link

    async def fetch(self, sql: str, *arguments: object) -> Any:
        async with self.container.postgres.connection() as connection:
            return await connection.fetchval(sql, *arguments)

    def without_key(self) -> httpx.AsyncClient:
        """Return a client of the same application that sends no key."""
        return httpx.AsyncClient(
            transport=self.client._transport,
            base_url="http://api.test",
            event_hooks={"response": [held_to_the_document]},
        )


documented: list[Contract] = []
"""The OpenAPI document, read by the first test."""


async def held_to_the_document(answer: httpx.Response) -> None:
    asked = answer.request
    if not asked.url.path.startswith("/api/v1/"):
        return
    body = await answer.aread()
    documented[0].check(asked.method, str(asked.url), answer.status_code, answer.headers, body)


OpenApi = Callable[..., contextlib.AbstractAsyncContextManager[Api]]


@contextlib.asynccontextmanager
async def open_api(settings: WriterSettings) -> AsyncIterator[Api]:
    clock = Clock(datetime.now(UTC))  # the database has the machine's time
    async with open_container(settings, clock.now) as container:
        await container.start()
        async with container.postgres.connection() as connection:
            _, key = await create_key(connection, "test")
        app = create_app(container)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://api.test",
            headers={"Authorization": f"Bearer {key}"},
            event_hooks={"response": [held_to_the_document]},
        ) as client:
            if not documented:
                documented.append(Contract((await client.get("/api/openapi.json")).json()))
            yield Api(client, container, clock, key)


@pytest.fixture
def settings(database_url: str, redis_url: str, redis_prefix: str) -> WriterSettings:
    return WriterSettings(
        postgres_url=database_url,
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        code_secret=SECRET,
        default_domain=HOST,
        # Long timeouts, for busy machines. Tests of timeouts set their own.
        publish_timeout_ms=1000,
        redis_timeout_ms=1000,  # which also bounds the wait for one of its connections
        postgres_timeout_ms=20_000,
        postgres_write_timeout_ms=30_000,
    )


@pytest.fixture
async def api(settings: WriterSettings) -> AsyncIterator[Api]:
    async with open_api(settings) as opened:
        yield opened


@pytest.fixture
def opened() -> OpenApi:
    """Open an API with other settings: `async with opened(settings) as api`."""
    return open_api


@pytest.fixture
async def links(database_url: str) -> AsyncIterator[Links]:
    """Changes links without the API."""
    connection = await asyncpg.connect(database_url)
    links = Links(connection)
    await links.domain()
    yield links
    await connection.close()


@pytest.fixture
async def one(
    database_url: str, redis_url: str, redis_prefix: str, links: Links
) -> AsyncIterator[RelayInProcess]:
    """One relay that is not started, with a timeout that a busy machine does not exceed."""
    async with relay_in_process(
        database_url, redis_url, redis_prefix, relay_redis_timeout_ms=10_000
    ) as made:
        yield made
