"""Scripts of other origins follow short links, if a setting names their origin."""

import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.tables import add_links

APP = "https://app.example.com"
OTHER = "https://other.example.com"
PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization,x-own",
}
PATHS = ("/plain", "/forever", "/forward?a=1", "/none", "/gone", "/", "/robots.txt", "/plain+")
SERVERS = ("direct", "asgi")
SETTINGS = {"off": "", "listed": f"{APP}, https://second.example.com", "any": "*"}


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]

    def cors(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.headers.items()
            if name == "vary" or name.startswith("access-control-")
        }


@pytest.fixture(scope="module")
def parts(module_stack: Stack) -> dict[str, Part]:
    add_links(
        module_stack.postgres_url,
        {
            "plain": {},
            "forever": {"redirect_status": 301},
            "gone": {"deleted": True},
            "forward": {"forward_query": True},
        },
    )
    return {
        f"{server}-{name}": module_stack.redirector(
            REDIRECTOR_SERVER=server, **({"REDIRECTOR_CORS_ORIGINS": value} if value else {})
        )
        for server in SERVERS
        for name, value in SETTINGS.items()
    }


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(part: Part, path: str, method: str = "GET", **headers: str) -> Response:
    connection = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Host": "localhost", **names})
        response = connection.getresponse()
        response.read()
        found = [(name.lower(), value) for name, value in response.getheaders()]
        assert len(found) == len(dict(found)), f"a header twice: {found}"
        return Response(response.status, dict(found))
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_without_the_setting_no_answer_mentions_origins(parts, server, path):
    part = parts[f"{server}-off"]
    for _ in range(2):  # a miss, then a hit of the local cache
        assert ask(part, path, Origin=APP).cors() == {}
    response = ask(part, path, "OPTIONS", Origin=APP, **PREFLIGHT)
    assert response.cors() == {}
    assert response.status in {204, 404, 410}  # as to any other OPTIONS


@pytest.mark.parametrize("path", PATHS)
def test_a_listed_origin_may_read_every_answer_and_no_other_may(parts, server, path):
    part = parts[f"{server}-listed"]
    for _ in range(2):
        for method in ("GET", "HEAD"):
            allowed = ask(part, path, method, Origin=APP)
            assert allowed.cors() == {
                "vary": "Origin",
                "access-control-allow-origin": APP,
                "access-control-expose-headers": "Retry-After",
            }
            for headers in ({}, {"Origin": OTHER}, {"Origin": "null"}, {"Origin": "*"}):
                response = ask(part, path, method, **headers)
                assert response.cors() == {"vary": "Origin"}
                assert response.status == allowed.status
                assert response.headers.get("location") == allowed.headers.get("location")


@pytest.mark.parametrize("path", PATHS)
def test_a_wildcard_is_said_to_everybody(parts, server, path):
    part = parts[f"{server}-any"]
    for _ in range(2):
        for headers in ({}, {"Origin": OTHER}):
            assert ask(part, path, **headers).cors() == {
                "access-control-allow-origin": "*",
                "access-control-expose-headers": "Retry-After",
            }


@pytest.mark.parametrize(("setting", "origin", "said"), [("listed", APP, APP), ("any", OTHER, "*")])
def test_a_preflight_of_an_allowed_origin_is_answered(parts, server, setting, origin, said):
    part = parts[f"{server}-{setting}"]
    response = ask(part, "/plain", "OPTIONS", Origin=origin, **PREFLIGHT)
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == said
    assert "PUT" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "*, Authorization"
    assert response.headers["vary"].startswith("Origin, ")
    assert "access-control-allow-credentials" not in response.headers
    assert "content-length" not in response.headers
    counted = 'shortlinks_redirects_total{result="cors_preflight",status="204"}'
    assert part.metric(counted) >= 1


def test_a_preflight_of_an_unknown_origin_is_refused_and_counted(parts, server):
    part = parts[f"{server}-listed"]
    counted = 'shortlinks_redirects_total{result="cors_preflight",status="403"}'
    before = part.metric(counted)
    response = ask(part, "/plain", "OPTIONS", Origin="https://" + "a" * 8000, **PREFLIGHT)
    assert response.status == 403
    assert set(response.cors()) == {"vary"}
    assert part.metric(counted) == before + 1
    plain = ask(part, "/plain", "OPTIONS", Origin=APP)  # not a preflight
    assert plain.headers["allow"] == "GET, HEAD, OPTIONS"
