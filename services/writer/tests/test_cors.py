"""Scripts of other origins can call the API if a setting names their origin."""

import httpx
import pytest

from shortcore.settings.writer import WriterSettings
from writer.app.cors import EXPOSED_HEADERS

APP = "https://app.example.com"
OTHER = "https://other.example.com"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


def browser(api, key=None) -> httpx.AsyncClient:
    """Return a client without the contract check: the OpenAPI document does not describe CORS."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(
        transport=api.client._transport, base_url="http://api.test", headers=headers
    )


def open_with(settings: WriterSettings, opened, *origins):
    return opened(settings.model_copy(update={"writer_cors_origins": frozenset(origins)}))


async def test_without_the_setting_no_cors_header_is_sent(api):
    answer = await api.client.get("/api/v1/links", headers={"Origin": APP})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    async with api.without_key() as client:
        preflight = await client.options("/api/v1/links", headers={"Origin": APP, **PREFLIGHT})
    assert preflight.status_code == 401


async def test_a_preflight_of_an_allowed_origin_needs_no_key(settings, opened):
    async with open_with(settings, opened, APP) as api, browser(api) as client:
        answer = await client.options("/api/v1/links", headers={"Origin": APP, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": OTHER}, {"Origin": "null"}, {"Origin": APP + ".evil.example"},
        {"Origin": APP.upper()}, {"Access-Control-Request-Method": "TRACE"},
        {"Access-Control-Request-Headers": "x-made-up"},
    ],
)  # fmt: skip
async def test_a_preflight_that_is_not_allowed_is_rejected_and_counted(settings, opened, changed):
    async with open_with(settings, opened, APP) as api, browser(api) as client:
        headers = {"Origin": APP, **PREFLIGHT, **changed}
        answer = await client.options("/api/v1/links", headers=headers)
        refused = api.container.registry.get_sample_value(
            "shortlinks_api_requests_total",
            {"route": "cors-preflight", "method": "OPTIONS", "status": "4xx"},
        )
    assert answer.status_code == 400
    if "Origin" in changed:
        assert "access-control-allow-origin" not in answer.headers
    assert refused == 1


async def test_an_allowed_origin_may_read_the_headers_that_a_client_needs(settings, opened):
    async with open_with(settings, opened, APP) as api, browser(api, api.key) as client:
        answer = await client.post(
            "/api/v1/links", json={"target": "https://example.com/"}, headers={"Origin": APP}
        )
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == APP
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"etag", "location", "retry-after", "x-request-id", "link"} <= set(exposed)
    assert set(exposed) == {name.lower() for name in EXPOSED_HEADERS}
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_script_can_read_an_error_of_the_middleware(settings, opened):
    async with open_with(settings, opened, APP) as api, browser(api) as client:
        answer = await client.get("/api/v1/links", headers={"Origin": APP})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == APP


async def test_a_cached_response_is_not_shared_between_origins(settings, opened):
    async with open_with(settings, opened, APP) as api, browser(api, api.key) as client:
        for headers in ({}, {"Origin": APP}, {"Origin": OTHER}):
            answer = await client.get("/api/v1/domains", headers=headers)
            assert "Origin" in answer.headers["vary"]
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (APP if headers.get("Origin") == APP else None)


async def test_a_wildcard_is_sent_literally_and_never_with_credentials(settings, opened):
    async with open_with(settings, opened, "*") as api, browser(api, api.key) as client:
        answer = await client.get("/api/v1/domains", headers={"Origin": OTHER})
        preflight = await client.options("/api/v1/domains", headers={"Origin": OTHER, **PREFLIGHT})
    for each in (answer, preflight):
        assert each.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in each.headers


async def test_an_origin_of_64_kilobytes_is_an_unknown_origin(settings, opened):
    async with open_with(settings, opened, APP) as api, browser(api, api.key) as client:
        origin = "https://" + "a" * 65_536
        answer = await client.get("/api/v1/domains", headers={"Origin": origin})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
