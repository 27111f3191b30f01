"""Where a request ends, and which requests are refused before the application sees them."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from harness.stopwatch import Stopwatch

from shortcore.http.framing import refused
from shortcore.http.protocol import MAX_HEAD
from shortcore.runtime.server import UvicornServer

POST = b"POST /first HTTP/1.1\r\nHost: a.example\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: anything\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


async def echo(scope, receive, send):
    """Respond with the request as JSON: method, path, query, headers and body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message.get("more_body", False)
    seen = {
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    text = json.dumps(seen).encode()
    head = {"type": "http.response.start", "status": 200,
            "headers": [(b"content-length", str(len(text)).encode())]}  # fmt: skip
    await send(head)
    await send({"type": "http.response.body", "body": text})


@dataclass
class Server:
    port: int

    async def talk(self, *pieces: bytes, pause_s: float = 0.0) -> list[tuple[int, bytes]]:
        """Send each piece in its own packet; return all responses until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = []
        try:
            # The server may have closed already: what it has answered is read all the same.
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
            while line := await asyncio.wait_for(reader.readline(), 30):
                status, size = int(line.split()[1]), 0
                while (line := await reader.readline()) != b"\r\n":
                    name, _, value = line.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                if status != 100:
                    answers.append((status, await reader.readexactly(size)))
        finally:
            writer.close()
        return answers

    async def seen(self, *pieces: bytes, pause_s: float = 0.0) -> list[dict]:
        """Return what the application saw of each request; all must be answered 200."""
        answers = await self.talk(*pieces, pause_s=pause_s)
        assert {status for status, _ in answers} == {200}, answers
        return [json.loads(text) for _, text in answers]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    running = UvicornServer(echo, "127.0.0.1", 0, interface="asgi3")
    await running.start()
    yield Server(running.port)
    await running.stop(1)


BODIES = {
    "sized": (b"Content-Length: %d\r\n\r\n" % len(SMUGGLED), SMUGGLED),
    "chunked": (CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
}
SPELLINGS = {
    "plain": UPGRADE,
    "capitals": b"CONNECTION: UPGRADE\r\nUPGRADE: WEBSOCKET\r\n",
    "many tokens": b"Connection: keep-alive, x, uPgRaDe\r\nuPgRaDe: h2c\r\n",
    "many fields": b"Upgrade: a\r\nConnection: keep-alive\r\nUpgrade: b\r\nConnection: Upgrade\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("cut", ["nowhere", "behind the head", "everywhere"])
async def test_the_body_of_a_request_with_upgrade_is_never_read_as_a_request(
    server: Server, spelling: str, kind: str, cut: str
) -> None:
    framing, body = BODIES[kind]
    head = POST + SPELLINGS[spelling] + framing
    whole = head + body + NEXT
    pieces = {
        "nowhere": [whole],
        "behind the head": [head, body, NEXT],
        "everywhere": [whole[at : at + 1] for at in range(len(whole))],
    }[cut]
    first, last = await server.seen(*pieces, pause_s=0.05 if cut == "behind the head" else 0)
    assert (first["method"], first["path"], first["body"]) == ("POST", "/first", SMUGGLED.decode())
    assert last["path"] == "/next"
    assert "upgrade" not in dict(first["headers"])
    assert dict(first["headers"])["host"] == "a.example"


async def test_pipelined_requests_with_upgrade_are_answered_in_their_order(server: Server) -> None:
    one = POST + UPGRADE + b"Content-Length: 1\r\n\r\n"
    sent = b"".join(one + str(number).encode() for number in range(10))
    answers = await server.seen(sent + NEXT)
    assert [each["body"] for each in answers] == [*"0123456789", ""]


async def test_a_client_that_waits_for_100_continue_gets_it_in_spite_of_upgrade(
    server: Server,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(POST + UPGRADE + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    async with asyncio.timeout(30):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_upgrade_with_close_still_closes(server: Server) -> None:
    sent = POST + b"Connection: close, Upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n\r\nbody"
    (answer,) = await server.seen(sent + SMUGGLED)
    assert answer["body"] == "body"


async def test_connect_is_refused_and_the_connection_closed(server: Server) -> None:
    for extra in (b"", UPGRADE):
        head = b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n" + extra + b"\r\n"
        (answer,) = await server.talk(head, SMUGGLED, pause_s=0.05)
        assert answer[0] == 501
        assert b"CONNECT" in answer[1]


async def test_trailers_are_not_headers(server: Server) -> None:
    trailers = b"X-Forwarded-For: 192.0.2.1\r\nAuthorization: x\r\nExpect: 100-continue\r\n"
    trailers += b"Connection: upgrade\r\nUpgrade: x\r\nHost: b.example\r\n\r\n"
    sent = POST + CHUNKED + b"4\r\nbody\r\n0\r\n" + trailers + NEXT
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        first, last = await server.seen(*pieces)
        assert dict(first["headers"]) == {"host": "a.example", "transfer-encoding": "chunked"}
        assert first["body"] == "body"
        assert last["path"] == "/next"


async def test_a_trailer_that_closes_the_connection_closes_it_at_once(server: Server) -> None:
    sent = POST + CHUNKED + b"0\r\nConnection: close\r\n\r\n" + NEXT
    with Stopwatch() as took:
        (answer,) = await server.seen(sent)
    assert took.seconds < 2, "it waited for the keep-alive of the server"
    assert answer["path"] == "/first"


async def test_small_chunks_are_not_taken_for_abuse(server: Server) -> None:
    chunks = b"".join(b"0000000000000001\r\n%c\r\n" % (97 + at % 26) for at in range(50_000))
    sent = POST + CHUNKED + chunks + b"0\r\nX: y\r\n\r\n"
    pieces = [sent[at : at + 7_001] for at in range(0, len(sent), 7_001)]
    first, last = await server.seen(*pieces, NEXT)
    assert len(first["body"]) == 50_000
    assert last["path"] == "/next"


ENDLESS = {
    "trailers": (b"0\r\n", b"X-Trailer: 0123456789\r\n"),
    "a trailer": (b"0\r\nX: ", b"0123456789abcdef"),
    "a trailer's name": (b"0\r\n", b"0123456789abcdef"),
    "a chunk extension": (b"1;", b"0123456789abcdef"),
    "a value of an extension": (b"1;a=", b"0123456789abcdef"),
    "chunk extensions": (b"", b"1;name=0123456789abcdef0123456789abcdef\r\na\r\n"),
    "zeros before a size": (b"", b"0000000000000000"),
    "trailers after many chunks": (b"1\r\na\r\n" * 50_000 + b"0\r\n", b"X-Trailer: 012345\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_chunk_extensions_and_trailers_are_bounded(server: Server, kind: str) -> None:
    begin, more = ENDLESS[kind]
    before = refused["trailers"]
    piece = more * (16_384 // len(more))
    sent = 0
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(POST + CHUNKED + begin)
    await writer.drain()
    with contextlib.suppress(ConnectionError):
        while refused["trailers"] == before and sent < 10 * MAX_HEAD:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(0.001)
    writer.close()
    assert refused["trailers"] == before + 1
    assert sent <= 6 * MAX_HEAD  # what one read may bring comes on top


@pytest.mark.parametrize("start", [b"GET /a HTTP/1.1\r\nX: ", b"GET /a HTTP/1.1\r\n", b"GET /"])
async def test_a_head_without_an_end_is_refused(server: Server, start: bytes) -> None:
    (answer,) = await server.talk(start, *[b"a" * 8192] * 20, pause_s=0.01)
    assert answer[0] == (414 if start == b"GET /" else 431)
    assert str(MAX_HEAD).encode() in answer[1]


@pytest.mark.parametrize("extra", [b"", UPGRADE])
@pytest.mark.parametrize("size", [1, 4_000, 20_000, 70_000])
async def test_the_bound_of_a_head_does_not_depend_on_how_it_arrives(
    server: Server, size: int, extra: bytes
) -> None:
    for length, status in ((MAX_HEAD - 200, 200), (MAX_HEAD + 200, 431)):
        head = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + extra + b"X: "
        sent = head + b"a" * (length - len(head)) + b"\r\n\r\n"
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        if size == 1:  # in one piece, then, but for its end
            pieces = [sent[:-2], sent[-2:-1], sent[-1:]]
        ((found, _),) = await server.talk(*pieces, pause_s=0.01)
        assert found == status


GET = b"GET /a?b=c HTTP/1.1\r\n"
HOST = b"Host: a.example\r\n"
REFUSED = {
    "no Host": (GET + b"\r\n", 400),
    "two Hosts": (GET + HOST + b"Accept: x\r\nhOST: b.example\r\n\r\n", 400),
    "the same Host twice": (GET + HOST + HOST + b"\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", 400),
    "a blank in Host": (GET + b"Host: a.example b.example\r\n\r\n", 400),
    "a tab in Host": (GET + b"Host: a.example\tb\r\n\r\n", 400),
    "a list in Host": (GET + b"Host: a.example, b.example\r\n\r\n", 400),
    "a path in Host": (GET + b"Host: a.example/b\r\n\r\n", 400),
    "a user in Host": (GET + b"Host: user@a.example\r\n\r\n", 400),
    "raw UTF-8 in Host": (GET + "Host: bücher.example\r\n\r\n".encode(), 400),
    "a long Host": (GET + b"Host: " + b"a" * 256 + b"\r\n\r\n", 400),
    "a very long Host": (GET + b"Host: " + b"a" * 60_000 + b"\r\n\r\n", 400),
    "a port that is none": (GET + b"Host: a.example:http\r\n\r\n", 400),
    "raw UTF-8 in the path": ("GET /é HTTP/1.1\r\nHost: a.example\r\n\r\n".encode(), 400),
    "raw UTF-8 in the query": ("GET /?é HTTP/1.1\r\nHost: a.example\r\n\r\n".encode(), 400),
    "a user in the target": (b"GET http://user@a.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target without a host": (b"GET http:///a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "another scheme": (b"GET ftp://a.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "the target of OPTIONS": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star and more": (b"GET *x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target that is no path": (b"GET a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an absolute target and no Host": (b"GET http://a.example/ HTTP/1.1\r\n\r\n", 400),
    "two Authorizations": (GET + HOST + b"Authorization: a\r\nauthorization: b\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /a\r\n\r\n", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an unknown Transfer-Encoding": (GET + HOST + b"Transfer-Encoding: gzip\r\n\r\nabc", 501),
    "two Transfer-Encodings": (
        GET + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "Transfer-Encoding in two fields": (
        GET + HOST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    "both lengths": (GET + HOST + b"Content-Length: 3\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    "two lengths": (GET + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "a list of lengths": (GET + HOST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a negative length": (GET + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "a length with a sign": (GET + HOST + b"Content-Length: +1\r\n\r\na", 400),
    "a huge length": (GET + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "a folded field": (GET + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "a fold before the fields": (GET + b" " + HOST + b"\r\n", 400),
    "a bare LF": (b"GET / HTTP/1.1\nHost: a.example\n\n", 400),
    "a bare CR": (GET + HOST + b"X: a\rb\r\n\r\n", 400),
    "a NUL": (GET + HOST + b"X: a\0b\r\n\r\n", 400),
    "a blank before the colon": (GET + b"Host : a.example\r\n\r\n", 400),
    "a blank in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_malformed_request_is_refused_with_one_sentence_and_the_connection_is_closed(
    server: Server, kind: str
) -> None:
    sent, status = REFUSED[kind]
    for pieces in ([sent + SMUGGLED], [sent, SMUGGLED]):
        ((found, text),) = await server.talk(*pieces, pause_s=0.02 if pieces[1:] else 0)
        assert found == status
        assert text.isascii()
        assert text.endswith((b".\n", b"end.\n")), text
        assert len(text) < 200


CHUNKS = {
    "a size that is none": b"x\r\n",
    "a negative size": b"-1\r\n",
    "a size in 0x": b"0x1\r\na\r\n",
    "a size that overflows": b"ffffffffffffffffff\r\n",
    "a blank behind the size": b"1 \r\na\r\n",
    "a bare LF in an extension": b"1;a\nb\r\na\r\n",
    "no end of the chunk": b"1\r\nab\r\n",
    "a length as a trailer": b"0\r\nContent-Length: 3\r\n\r\n",
    "an encoding as a trailer": b"0\r\nTransfer-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("kind", CHUNKS)
async def test_a_body_that_breaks_a_rule_ends_its_request_and_the_connection(
    server: Server, kind: str
) -> None:
    head = POST + CHUNKED
    for pieces in ([head + CHUNKS[kind] + SMUGGLED], [head, CHUNKS[kind], SMUGGLED]):
        ((found, text),) = await server.talk(*pieces, pause_s=0.02 if pieces[1:] else 0)
        assert (found, text.endswith(b".\n")) == (400, True)


async def test_the_refusal_follows_the_responses_to_the_requests_before_it(server: Server) -> None:
    good = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"
    bad = POST + CHUNKED + b"x\r\n"
    for last in (bad, GET + b"\r\n", b"\x00"):
        answers = await server.talk(good * 3 + last)
        assert [status for status, _ in answers] == [200, 200, 200, 400], last


ACCEPTED = {
    "a path": (GET + HOST, "a.example", "/a", "b=c"),
    "a port": (GET + b"Host: a.example:8080\r\n", "a.example:8080", "/a", "b=c"),
    "an address": (GET + b"Host: [2001:db8::1]:80\r\n", "[2001:db8::1]:80", "/a", "b=c"),
    "blanks around Host": (GET + b"Host: \t a.example \t \r\n", "a.example", "/a", "b=c"),
    "an empty Host": (GET + b"Host:\r\n", "", "/a", "b=c"),
    "an absolute target": (
        b"GET http://b.example/a?b=c HTTP/1.1\r\n" + HOST, "b.example", "/a", "b=c"),
    "capitals": (b"GET HTTPS://B.example:1/a HTTP/1.1\r\n" + HOST, "B.example:1", "/a", ""),
    "an absolute target without a path": (
        b"GET http://b.example HTTP/1.1\r\n" + HOST, "b.example", "/", ""),
    "an absolute target with a query only": (
        b"GET http://b.example?b=c HTTP/1.1\r\n" + HOST, "b.example", "/", "b=c"),
    "two slashes": (b"GET //b.example/a HTTP/1.1\r\n" + HOST, "a.example", "//b.example/a", ""),
    "a fragment": (b"GET /a?b=c#d HTTP/1.1\r\n" + HOST, "a.example", "/a", "b=c"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACCEPTED)
async def test_the_application_sees_which_host_and_path_is_asked_for(
    server: Server, kind: str
) -> None:
    sent, host, path, query = ACCEPTED[kind]
    (seen,) = await server.seen(sent + b"Connection: close\r\n\r\n")
    hosts = [value for name, value in seen["headers"] if name == "host"]
    assert (hosts, seen["path"], seen["query"]) == ([host], path, query)


async def test_http_1_0_needs_no_host(server: Server) -> None:
    (seen,) = await server.seen(b"GET /a HTTP/1.0\r\n\r\n")
    assert seen["path"] == "/a"
