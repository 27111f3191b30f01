"""A writer and a redirector of each server, with three links."""

import pytest
from harness.stack import Stack


@pytest.fixture(scope="module")
def stack(module_stack: Stack) -> Stack:
    """`parts` are the writer, then the redirectors of `direct` and of `asgi`."""
    links = (
        {"code": "victim", "target": "https://victim.example/"},
        {"code": "attacker", "target": "https://attacker.example/"},
        {"code": "locked", "target": "https://locked.example/", "password": "sesame"},
    )
    with module_stack.api(module_stack.writer()) as api:
        for link in links:
            api.post("/api/v1/links", json=link).raise_for_status()
    for server in ("direct", "asgi"):
        module_stack.redirector(REDIRECTOR_SERVER=server)
    return module_stack
