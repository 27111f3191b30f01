"""Requests that hide a request in their body, sent through a real nginx.

nginx shares its connections to a server among all visitors. A server that takes a body for a request
gives one visitor the answer of another.
"""

import http.client
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from harness import nginx
from harness.stack import Part, Stack

pytestmark = pytest.mark.skipif(nginx.find() is None, reason="nginx is not installed")

VICTIM = "https://victim.example/"
ROUNDS = 40
BLANK_LINES = "\r\n" * 150_000
CONFIGURATIONS = {"keeps connections": nginx.PLAIN, "passes Upgrade on": nginx.UPGRADES}


@pytest.fixture(params=CONFIGURATIONS)
def headers(request: pytest.FixtureRequest) -> str:
    return CONFIGURATIONS[request.param]


def attack(port: int, path: str, hidden: str, framing: str) -> None:
    """Send a POST whose body begins a request that the next bytes on the connection complete.

    The body is longer than one read of the server. It begins with blank lines, which a parser skips
    before a request: wherever the second read begins, the hidden request is intact.
    """
    body = (BLANK_LINES + hidden + "X-Rest: ").encode()
    if framing == "chunked":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    length = (
        "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {len(body)}"
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        f"Upgrade: anything\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(head.encode() + body)
        assert sock.recv(100).startswith(b"HTTP/1.1 ")


def location(port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().getheader("location")
    finally:
        connection.close()


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("server", ["direct", "asgi"])
def test_no_visitor_gets_the_answer_of_another(
    stack: Stack, tmp_path, headers: str, server: str, framing: str
) -> None:
    part = redirectors(stack)[server]
    hidden = "GET /attacker HTTP/1.1\r\nHost: localhost\r\n"
    with nginx.nginx(tmp_path, urlsplit(part.url).netloc, headers) as port:
        found = []
        for _ in range(ROUNDS):
            attack(port, "/victim", hidden, framing)
            found += [location(port, "/victim") for _ in range(3)]
    assert set(found) == {VICTIM}


def test_no_key_of_another_reaches_a_link_of_an_attacker(
    stack: Stack, tmp_path, headers: str
) -> None:
    writer = stack.parts[0]
    with stack.api(writer) as api:
        links = len(api.get("/api/v1/links").raise_for_status().json()["items"])
    body = json.dumps({"target": "https://example.com/"})
    hidden = (
        f"POST /api/v1/links HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {stack.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body) + 100}\r\n"
    )
    with nginx.nginx(tmp_path, urlsplit(writer.url).netloc, headers) as port:
        for _ in range(ROUNDS):
            attack(port, "/api/v1/links", hidden, "sized")
            answer = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/links",
                headers={"Authorization": f"Bearer {stack.api_key}", "Host": "localhost"},
                trust_env=False,
            )
            assert answer.status_code == httpx.codes.OK
            assert len(answer.json()["items"]) == links


def redirectors(stack: Stack) -> dict[str, Part]:
    return dict(zip(("direct", "asgi"), stack.parts[1:], strict=True))
