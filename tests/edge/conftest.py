"""A writer and a redirector of each server, with three links."""

from collections.abc import Iterator

import pytest
from harness import servers
from harness.databases import Databases
from harness.stack import Stack


@pytest.fixture(scope="module")
def stack(databases: Databases, redis_server: servers.Server) -> Iterator[Stack]:
    """`parts` are the writer, then the redirectors of `direct` and of `asgi`."""
    links = (
        {"code": "victim", "target": "https://victim.example/"},
        {"code": "attacker", "target": "https://attacker.example/"},
        {"code": "locked", "target": "https://locked.example/", "password": "sesame"},
    )
    with (
        servers.open_folder() as folder,
        databases.fresh() as url,
        Stack(folder, url, redis_server.url) as stack,
    ):
        with stack.api(stack.writer()) as api:
            for link in links:
                api.post("/api/v1/links", json=link).raise_for_status()
        for server in ("direct", "asgi"):
            stack.redirector(REDIRECTOR_SERVER=server)
        yield stack
