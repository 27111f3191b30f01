"""A stack over a PostgreSQL and a Valkey of its own, each behind a proxy: all can be broken."""

import itertools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import redis

from harness.databases import fetch, in_thread
from harness.proxy import Proxy
from harness.servers import FAST
from harness.stack import Part, Stack
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey

BATCH = 500
_numbers = itertools.count()


@dataclass(eq=False)
class Rig:
    """`stack` reaches the servers through `postgres_wire` and `redis_wire`."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    postgres_options: Mapping[str, str] = field(default_factory=lambda: FAST)
    redis_options: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        from writer.migrations import upgrade  # noqa: PLC0415  # a service's code, for this alone

        self.postgres = EmbeddedPostgres(
            self.folder / "postgres", options=dict(self.postgres_options)
        )
        self.redis = EmbeddedValkey(self.folder / "redis", options=self.redis_options)
        self.postgres.start()
        self.redis.start()
        in_thread(lambda: upgrade(self.postgres.url))
        self.postgres_wire = Proxy(self.postgres.url)
        self.redis_wire = Proxy(self.redis.url)
        self.stack = Stack(
            self.folder, self.postgres_wire.url, self.redis_wire.url, settings=self.settings
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stack.__exit__(kind, error, trace)
        finally:
            for wire in (self.postgres_wire, self.redis_wire):
                wire.close()
            for server in (self.redis, self.postgres):
                if server.running:
                    server.resume()
                    server.kill()  # its data is thrown away

    def valkey(self) -> "redis.Redis":
        """Return a client past the proxy."""
        return redis.Redis.from_url(self.redis.url)


def make_links(api: httpx.Client, number: int, **fields: object) -> dict[str, str]:
    """Create so many links in batches; returns path to target, each target once in a run."""
    made: dict[str, str] = {}
    while len(made) < number:
        size = min(BATCH, number - len(made))
        items = [{"target": new_target(), **fields} for _ in range(size)]
        answer = api.post("/api/v1/links:batch", json={"items": items}, timeout=30)
        assert answer.status_code in {200, 201, 207}, answer.text
        for item in answer.json()["items"]:
            assert item["status"] == 201, item
            made[f"/{item['link']['code']}"] = item["link"]["target"]
    return made


def waiting(url: str) -> int:
    """Return how many rows of links wait in PostgreSQL for a relay."""
    query = "SELECT (SELECT count(*) FROM outbox WHERE code <> '') + count(*) FROM outbox_many"
    return int(fetch(url, query))


def new_target() -> str:
    """Return a target that no other link of this process has."""
    return f"https://example.com/{next(_numbers)}"


def api_path(path: str) -> str:
    """Return the path in the API of the link at `path` of the default domain."""
    return f"/api/v1/links/localhost{path}"


def exit_code(part: Part) -> int:
    """Return the code that a part ended with."""
    process = part.child._process
    assert isinstance(process, subprocess.Popen)
    assert process.returncode is not None
    return process.returncode
