"""Every server answers alike: the same bytes in, the same status, headers and body out."""

import asyncio
import contextlib
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher
from harness.stack import Part, Stack
from harness.tables import add_domain, add_links

TARGET = "https://target.example/path?q=1"
SERVERS = ("direct", "asgi")
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("sesame")


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def parts(module_stack: Stack) -> dict[str, Part]:
    _fill(module_stack.postgres_url)
    return {
        name: module_stack.redirector(REDIRECTOR_SERVER=name, PASSWORD_ATTEMPTS="2")
        for name in SERVERS
    }


def _fill(url: str) -> None:
    add_domain(url, "other.example")
    add_links(
        url,
        {
            "plain": {"target": TARGET},
            "forever": {"target": TARGET, "redirect_status": 301},
            "gone": {"target": TARGET, "deleted": True},
            "off": {"target": TARGET, "enabled": False},
            "keeps": {"target": TARGET, "redirect_status": 307},
            "later": {"target": TARGET, "valid_from": datetime(2999, 1, 1, tzinfo=UTC)},
            "circle": {"target": "https://other.example/circle"},
            "forward": {"target": TARGET, "forward_query": True, "forward_path": True},
            "locked": {"target": TARGET, "password_hash": PASSWORD_HASH},
        },
    )


@pytest.fixture(params=SERVERS)
def part(request: pytest.FixtureRequest, parts: dict[str, Part]) -> Part:
    return parts[request.param]


def talk(
    part: Part, sent: bytes, responses: int = 1, heads: tuple[int, ...] = ()
) -> list[Answered]:
    """Send bytes on one connection and read so many answers; `heads` are answers to HEAD."""
    host, port = part.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(sent)
        stream = sock.makefile("rb")
        return [read(stream, head=number in heads) for number in range(responses)]


def read(stream: "socket.SocketIO | object", *, head: bool = False) -> Answered:
    line = stream.readline()  # type: ignore[attr-defined]
    assert line, "the connection was closed without an answer"
    status = int(line.split()[1])
    headers: dict[str, str] = {}
    while (raw := stream.readline()) != b"\r\n":  # type: ignore[attr-defined]
        name, _, value = raw.decode("latin-1").rstrip("\r\n").partition(": ")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value
    length = 0 if head else int(headers.get("content-length", "0"))
    return Answered(status, headers, stream.read(length))  # type: ignore[attr-defined]


def get(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode("latin-1")


REQUESTS = {
    "a plain link": get("/plain"),
    "a plain link with a query": get("/plain?utm=1"),
    "a permanent link": get("/forever"),
    "a deleted link": get("/gone"),
    "a disabled link": get("/off"),
    "a link that leads back": get("/circle"),
    "an unknown code": get("/unknown"),
    "no code at all": get("/a.b/c"),
    "an escaped code": get("/%70lain"),
    "a forwarding link": get("/forward/a/b?x=%20y"),
    "a preview": get("/plain+"),
    "the root": get("/"),
    "robots": get("/robots.txt"),
    "an unknown host": b"GET /plain HTTP/1.1\r\nHost: 10.0.0.1:81\r\n\r\n",
    "another domain": b"GET /plain HTTP/1.1\r\nHost: OTHER.example\r\n\r\n",
    "a method that is not allowed": get("/plain", "DELETE"),
    "the methods of a link": get("/plain", "OPTIONS"),
    "a POST to a link that keeps the method": get("/keeps", "POST", "Content-Length: 5\r\n")
    + b"hello",
    "a POST that is not allowed": get("/plain", "POST", "Content-Length: 5\r\n") + b"hello",
    "a PUT to a protected link": get("/locked", "PUT", "Content-Length: 5\r\n") + b"hello",
    "a scheduled link": get("/later"),
    "a body with a GET": get("/plain", more="Content-Length: 5\r\n") + b"hello",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_server_gives_the_same_answer(parts: dict[str, Part], name: str) -> None:
    responses = {}
    for server, part in parts.items():
        for attempt in ("from PostgreSQL", "from memory"):
            answered = talk(part, REQUESTS[name])[0]
            headers = {k: v for k, v in answered.headers.items() if k not in {"date", "server"}}
            responses[server, attempt] = (answered.status, sorted(headers.items()), answered.body)
            assert re.fullmatch(r"\w{3}, .* GMT", answered.headers["date"])
    assert len({str(response) for response in responses.values()}) == 1, responses


@pytest.mark.parametrize("code", ["forward", "locked", "later"])
def test_a_link_with_rules_that_is_in_memory_is_answered_without_a_lookup(
    part: Part, code: str
) -> None:
    first = talk(part, get(f"/{code}"))[0]
    misses = 'shortlinks_lookup_total{layer="local",result="miss"}'
    before = part.metric(misses)
    for _ in range(3):
        assert talk(part, get(f"/{code}"))[0].status == first.status
    assert part.metric(misses) == before


@pytest.mark.parametrize("server", SERVERS)
def test_a_made_up_field_in_front_of_the_proxys_own_gives_no_more_attempts(
    parts: dict[str, Part], server: str
) -> None:
    client = f"203.0.113.{SERVERS.index(server)}"
    form = "password=wrong"
    statuses = []
    for number in range(3):
        more = (
            f"X-Forwarded-For: 198.51.100.{number}\r\nX-Forwarded-For: {client}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\n"
        )
        sent = get("/locked", "POST", more) + form.encode()
        statuses.append(talk(parts[server], sent)[0].status)
    assert statuses == [403, 403, 429]


def test_head_has_the_headers_of_get_and_no_body(part: Part) -> None:
    for path in ("/plain", "/gone", "/unknown", "/robots.txt"):
        with_body = talk(part, get(path))[0]
        sent = get(path, "HEAD") + get("/plain")
        head, after = talk(part, sent, responses=2, heads=(0,))
        assert head.status == with_body.status
        assert head.headers.get("content-length") == with_body.headers.get("content-length")
        assert after.headers["location"] == TARGET


def test_pipelined_requests_are_answered_in_their_order(part: Part) -> None:
    paths = ["/plain", "/never-seen-1", "/plain", "/gone", "/plain+", "/plain", "/never-seen-2"]
    responses = talk(part, b"".join(map(get, paths)), responses=len(paths))
    assert [response.status for response in responses] == [302, 404, 302, 410, 200, 302, 404]


def test_a_request_in_pieces_is_one_request(part: Part) -> None:
    host, port = part.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in get("/plain"):
            sock.send(bytes([byte]))
        assert read(sock.makefile("rb")).headers["location"] == TARGET


def test_a_client_that_wants_the_connection_closed_gets_it_closed(part: Part) -> None:
    for sent in (
        get("/plain", more="Connection: close\r\n"),
        b"GET /plain HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ):
        host, port = part.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(sent)
            stream = sock.makefile("rb")
            assert read(stream).headers["location"] == TARGET
            assert stream.read() == b""


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"GET /pl\x00ain HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /plain HTTP/1.1\r\nHost: localhost\r\nX y: z\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
    ],
)
def test_hostile_bytes_get_no_redirect_and_harm_nobody(part: Part, hostile: bytes) -> None:
    host, port = part.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(hostile)
        with contextlib.suppress(OSError):  # the server may have hung up already
            sock.shutdown(socket.SHUT_WR)
        said = sock.makefile("rb").read()
        assert b" 302 " not in said
    assert talk(part, get("/plain"))[0].status == 302


def test_the_requests_of_a_client_that_reads_nothing_do_not_pile_up(part: Part) -> None:
    host, port = part.url.removeprefix("http://").split(":")
    before = part.memory()
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.setblocking(False)
        sent = get("/plain") * 1000
        total = 0
        while total < 64 * 1024 * 1024:
            try:
                total += sock.send(sent)
            except BlockingIOError:
                try:
                    asyncio.run(asyncio.wait_for(_writable(sock), 1))
                except TimeoutError:
                    break
            except ConnectionError:  # cutting such a client off is as good
                break
        assert part.memory() - before < 32 * 1024 * 1024
    assert talk(part, get("/plain"))[0].status == 302


@pytest.mark.parametrize("begun", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_an_end_is_cut_off(part: Part, begun: bytes) -> None:
    host, port = part.url.removeprefix("http://").split(":")
    before = part.memory()
    more = b"X-y: z\r\n" * 10_000 if begun.endswith(b"\n") else b"a" * 80_000
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(begun)
        total = 0
        with contextlib.suppress(ConnectionError):  # what it is for
            while total < 24 * 1024 * 1024:
                total += sock.send(more)
        assert total < 24 * 1024 * 1024
    assert part.memory() - before < 8 * 1024 * 1024
    assert talk(part, get("/plain?" + "a" * 8000))[0].status == 302


async def _writable(sock: socket.socket) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().add_writer(sock, done.set)
    try:
        await done.wait()
    finally:
        asyncio.get_running_loop().remove_writer(sock)


def test_the_body_of_an_answered_get_is_dropped_within_a_bound(part: Part) -> None:
    host, port = part.url.removeprefix("http://").split(":")
    mib = b"x" * (1 << 20)
    with (
        socket.create_connection((host, int(port)), timeout=30) as sock,
        sock.makefile("rb") as stream,
    ):
        for _ in range(2):  # each request has a bound of its own
            sock.sendall(get("/plain", more=f"Content-Length: {10 << 20}\r\n") + mib * 10)
            response = read(stream)
            assert response.status == 302, response
        sock.sendall(get("/plain", more=f"Content-Length: {100 << 20}\r\n"))
        response = read(stream)
        assert response.status == 302, response
        with pytest.raises(ConnectionError):
            sock.sendall(mib * 100)
