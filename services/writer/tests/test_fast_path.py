"""The fast path of creates gives the same responses as the framework to any body."""

import json

import httpx
import pytest

from writer.app.fast_path import FastPath
from writer.app.middleware import ApiMiddleware

LINKS = "/api/v1/links"
OK = {"target": "https://example.com/"}

BODIES = [
    OK,
    OK | {"target": 5},
    OK | {"such": 1},
    OK | {"redirect_status": 302.0},
    OK | {"max_visits": 2**70},
    OK | {"title": "\ud800"},
    OK | {"title": "a\x00"},
    OK | {"expires_at": "2001-01-01T00:00:00Z"},
    OK | {"code": "api"},
    OK | {"code": "here"},
    OK | {"domain": "no.such"},
    OK | {"tags": ["a b"]},
    [],
    5,
    None,
]
RAW = [json.dumps(each).encode() for each in BODIES] + [
    b"",
    b"{",
    b'{"target": NaN}',
    b"\xff",
    b"[" * 5000,
    b'\xef\xbb\xbf{"target": "https://example.com/"}',
    json.dumps(OK).encode("utf-16"),
    b'{"target": "x", "target": "https://example.com/"}',
]


class Counted:
    """An application that counts its requests."""

    def __init__(self, app) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope, receive, send) -> None:
        self.requests += 1
        await self.app(scope, receive, send)


@pytest.fixture
def framework(api):
    """The framework without the fast path, and the middleware."""
    middleware = api.client._transport.app
    fast = middleware._app._app  # between them is what answers HEAD
    assert isinstance(fast, FastPath)
    return fast._app, middleware


def client_of(app, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://api.test",
        headers={"authorization": f"Bearer {key}", "x-request-id": "same"},
    )


@pytest.mark.parametrize("path", [LINKS, f"{LINKS}:batch"])
@pytest.mark.parametrize("body", RAW, ids=lambda body: repr(body[:40]))
async def test_every_body_gets_the_same_response_as_from_the_framework(api, framework, path, body):
    await api.create(code="here")
    plain, middleware = framework
    long = ApiMiddleware(plain, middleware._keys, middleware._metrics, middleware._limits)
    if path.endswith("batch") and body[:1] in b"{[5":
        body = b'{"items": [' + body + b"]}"
    answers = []
    for app in (middleware, long):
        async with client_of(app, api.key) as client:
            sent = {"content-type": "application/json"}
            answers.append(await client.post(path, content=body, headers=sent))
    short, full = answers
    assert short.status_code == full.status_code, (short.text, full.text)
    assert short.headers.keys() == full.headers.keys()
    if b"urn:shortlinks:problem" in full.content:
        assert short.content == full.content


async def test_a_valid_create_bypasses_the_framework_and_is_counted_under_its_route(api, framework):
    plain, middleware = framework
    counted = Counted(plain)
    app = ApiMiddleware(
        FastPath(
            counted,
            api.container.drafter,
            api.container.links,
            api.container.batches,
            middleware._limits,
        ),
        middleware._keys,
        middleware._metrics,
        middleware._limits,
    )
    async with client_of(app, api.key) as client:
        assert (await client.post(LINKS, json=OK)).status_code == 201
        assert (await client.post(f"{LINKS}:batch", json={"items": [OK]})).status_code == 200
        assert counted.requests == 0
        assert (await client.get(LINKS)).status_code == 200
        assert (await client.post(LINKS, json={"target": "x"})).status_code == 422
        assert (await client.post(LINKS, json={"target": 1})).status_code == 422
    assert counted.requests == 2
    for route, status in ((LINKS, "2xx"), (f"{LINKS}:batch", "2xx"), (LINKS, "4xx")):
        labels = {"route": route, "method": "POST", "status": status}
        assert api.container.registry.get_sample_value("shortlinks_api_requests_total", labels)


async def test_a_body_in_several_messages_is_joined(api):
    async def pieces():
        for piece in (b'{"target": ', b'"https://example', b'.com/"}'):
            yield piece

    answer = await api.client.post(
        LINKS, content=pieces(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["target"] == "https://example.com/"


@pytest.mark.parametrize("path", [LINKS, f"{LINKS}:batch"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Idempotency-Key", ["one", "two"]),
        ("Content-Type", ["application/json", "text/plain"]),
        ("Content-Type", ["text/plain", "application/json"]),
        ("Authorization", ["Bearer sl_none", None]),
    ],
)
async def test_a_repeated_single_value_header_is_rejected_with_and_without_the_fast_path(
    api, framework, path, name, values
):
    plain, middleware = framework
    long = ApiMiddleware(plain, middleware._keys, middleware._metrics, middleware._limits)
    sent = {"authorization": f"Bearer {api.key}", "content-type": "application/json"}
    sent.pop(name.lower(), None)
    doubled = [(name, value or f"Bearer {api.key}") for value in values]
    body = OK if path == LINKS else {"items": [OK]}
    for app in (middleware, long):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api.test"
        ) as client:
            answer = await client.post(
                path, content=json.dumps(body), headers=[*sent.items(), *doubled]
            )
        assert answer.status_code == 400, answer.text
        assert answer.json()["detail"] == f"Send the header {name} only once."
    assert await api.fetch("SELECT count(*) FROM links") == 0
