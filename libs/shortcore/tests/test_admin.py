"""The admin port: GET, HEAD and OPTIONS; other methods get 405 with the permitted ones."""

import httpx
import pytest

from shortcore.runtime.admin import AdminApp
from shortcore.runtime.health import Health
from shortcore.runtime.metrics import new_registry

METHODS = "GET, HEAD, OPTIONS"


@pytest.fixture
async def http():
    app = AdminApp(Health(), new_registry(), "test")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://admin"
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics", "/none"])
async def test_head_has_the_status_and_headers_of_get_without_a_body(http, path):
    with_body, head = await http.get(path), await http.head(path)
    assert head.status_code == with_body.status_code
    assert set(head.headers) == set(with_body.headers) >= {"content-length", "content-type"}
    assert head.content == b""
    assert int(with_body.headers["content-length"]) == len(with_body.content) > 0


async def test_options_and_405_name_the_permitted_methods(http):
    for path in ("/livez", "/metrics"):
        options = await http.options(path)
        assert (options.status_code, options.headers["allow"]) == (204, METHODS)
        assert "content-length" not in options.headers
        for method in ("POST", "PUT", "DELETE", "TRACE"):
            refused = await http.request(method, path)
            assert (refused.status_code, refused.headers["allow"]) == (405, METHODS)
    assert (await http.options("/none")).status_code == 404
