"""Bodies that are too long, and what stands around a body, sent to every port as raw bytes."""

import contextlib
import socket
from urllib.parse import urlsplit

import pytest
from harness.stack import Stack
from harness.waiting import until

MIB = 2**20
PORTS = {
    "writer": (0, "url"), "direct": (1, "url"), "asgi": (2, "url"),
    "admin of the writer": (0, "admin_url"), "admin of a redirector": (1, "admin_url"),
}  # fmt: skip
ENDLESS = {
    "trailers": b"0\r\n" + b"X-Forwarded-For: 192.0.2.1\r\n" * 2_000_000,
    "a trailer": b"0\r\nX-Forwarded-For: " + b"a" * 60 * MIB,
    "a chunk extension": b"1;a=" + b"a" * 60 * MIB,
}


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=30)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize(("key", "status"), [(True, 413), (False, 401)])
def test_an_early_answer_reaches_who_sends_the_whole_body_first(
    stack: Stack, key: bool, status: int, connection: str
) -> None:
    credentials = f"Authorization: Bearer {stack.api_key}\r\n" if key else ""
    head = (
        f"POST /api/v1/links HTTP/1.1\r\nHost: localhost\r\nContent-Length: {12 * MIB}\r\n"
        f"Content-Type: application/json\r\nConnection: {connection}\r\n{credentials}\r\n"
    )
    for _ in range(3):
        with connect(stack.parts[0].url) as sock:
            sock.sendall(head.encode())
            for _ in range(12):
                sock.sendall(b"x" * MIB)
            assert sock.recv(100).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_stands_around_a_body_takes_no_memory(stack: Stack, kind: str, port: str) -> None:
    number, attribute = PORTS[port]
    part = stack.parts[number]
    rule = 'shortlinks_http_refused_total{rule="trailers"}'
    before, refused = part.memory(), part.metric(rule)
    # The link has a password: a redirector waits for the form, so it cannot answer before the bound.
    head = (
        "POST /locked HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with connect(getattr(part, attribute)) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(head.encode())
        sock.sendall(ENDLESS[kind])  # the server cuts the connection
    assert part.memory() - before < 12 * MIB
    if port in {"direct", "asgi"}:  # the others answer before, and drop the rest
        until(lambda: part.metric(rule) == refused + 1, "the refusal is counted")
