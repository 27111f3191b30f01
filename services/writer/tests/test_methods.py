"""HEAD works on every GET route; OPTIONS and every 405 list the methods of the path."""

import pytest

LINKS = "/api/v1/links"


@pytest.mark.parametrize(
    "path",
    [
        LINKS,
        f"{LINKS}/go.test/abc",
        f"{LINKS}/go.test/none",
        f"{LINKS}?limit=0",
        "/api/v1/tags",
        "/api/v1/domains",
        "/api/v1/domains/go.test",
        "/api/v1/keys",
        "/api/openapi.json",
        "/api/v1/nothing",
    ],
)
async def test_head_has_the_status_and_the_headers_of_get_and_no_body(api, path):
    await api.create(code="abc")
    same = {"x-request-id": "one"}
    with_body = await api.client.get(path, headers=same)
    head = await api.client.head(path, headers=same)
    assert head.status_code == with_body.status_code
    assert dict(head.headers) == dict(with_body.headers)
    assert int(head.headers["content-length"]) == len(with_body.content) > 0
    assert head.content == b""


async def test_head_supports_if_none_match_and_requires_a_key(api):
    link = await api.create(code="abc")
    etag = f'"{link["version"]}"'
    assert (await api.client.head(link["self"], headers={"if-none-match": etag})).status_code == 304
    async with api.without_key() as client:
        assert (await client.head(link["self"])).status_code == 401


async def test_head_is_rejected_and_does_nothing_without_a_get_route(api):
    link = await api.create(code="abc")
    answer = await api.client.head(link["self"] + ":restore")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (LINKS, "GET, HEAD, OPTIONS, POST"),
        (f"{LINKS}:batch", "OPTIONS, POST"),
        (f"{LINKS}/go.test/abc", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/api/v1/tags", "GET, HEAD, OPTIONS"),
        ("/api/v1/keys/7", "DELETE, OPTIONS"),
        ("/api/v1/webhooks/7", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/api/v1/webhooks/7:test", "OPTIONS, POST"),
        ("/api/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_and_a_405_list_all_methods_of_a_path(api, path, methods):
    answer = await api.client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, methods, b"")
    refused = await api.client.request("PROPFIND", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    assert refused.json()["type"] == "urn:shortlinks:problem:method-not-allowed"


async def test_a_head_request_is_counted_under_its_route(api):
    await api.client.head(LINKS)
    labels = {"route": LINKS, "method": "HEAD", "status": "2xx"}
    assert api.container.registry.get_sample_value("shortlinks_api_requests_total", labels) == 1
