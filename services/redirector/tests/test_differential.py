"""However a request is sent, and whichever server reads it, the answer is the same.

Generated requests, most of them slightly wrong, go to the fast protocol and to ASGI: alone with
`Connection: close`, in front of another request on the same connection, and cut into small reads.
"""

import asyncio
import random
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.tables import add_links

CASES = 2500
TOGETHER = 24
SERVERS = ("direct", "asgi")
MODES = ("close", "keep-alive", "cut")
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LAST_TARGET = "https://last.example/"

# Each list begins with what a correct request has; `some` takes that most of the time.
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get",
           "FOO", "PURGE"]  # fmt: skip
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", ""]
CODES = ["plain", "forever", "gone", "off", "forward", "other", "nobody", "PLAIN", "%70lain",
         "pl%61in", "plain%00", "plain%2F", "plain.", "a" * 64, "a" * 65, "-", "é", "plain\x7f",
         "", "robots.txt", "favicon.ico"]  # fmt: skip
AFTER = ["", "", "?", "?a=b", "+", "+?a", "/", "/x", "/x?y=z", "//", "?" + "a" * 8192,
         "?" + "a" * 8193, "/" + "b" * 9000, "#c", "?a#c", "?é", "?<script>", "?a b", "?%", "%",
         "&utm_source=x", "\t", " "]  # fmt: skip
BEFORE = ["/", "/", "/", "//", "http://localhost/", "http://other.example/", "HTTP://LOCALHOST:80/",
          "https://other.example/", "http://unknown.example/", "http://u@localhost/", "http:///",
          "ftp://localhost/", "*", "", "http://localhost", "http://[::1]/", "/./", "/%2e/", "\\"
          ]  # fmt: skip
HOSTS = [["localhost"], ["LOCALHOST"], ["localhost:80"], ["localhost."], ["other.example"],
         ["unknown.example"], ["[::1]"], ["127.0.0.1:1"], [""], [" localhost "], ["localhost\t"],
         [], ["localhost", "localhost"], ["localhost", "other.example"], ["local host"],
         ["localhost, other.example"], ["bücher.example"], ["xn--bcher-kva.example"],
         ["a" * 255], ["a" * 256], ["a" * 60_000], ["localhost/"], ["u@localhost"], ["localhost:x"],
         ["localhost:65536"], ["%6cocalhost"], ["a_b.example"]]  # fmt: skip
NAMES = ["Host", "Host", "host", "HOST", "hOsT"]
FIELDS = ["Accept: */*", "User-Agent: x/1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https",
          "Connection: keep-alive", "Connection: Upgrade\r\nUpgrade: h2c", "Upgrade: websocket",
          "Connection: upgrade, keep-alive\r\nUPGRADE: x", "Connection: close, Upgrade\r\nUpgrade: x",
          "Connection: x", "Authorization: a", "Authorization: a\r\nauthorization: b", "X:", "X: é",
          "X: a\0b", "X: a\r\n b", "X : a", ": a", "X", "X: " + "a" * 20_000, "Expect: 100-continue",
          "Expect: x", "Date: x", "From: y", "Purpose: prefetch", "Accept-Encoding: gzip",
          "Cookie: a=b", "If-None-Match: *", "If-Modified-Since: x", "Range: bytes=0-1",
          "Keep-Alive: 1", "TE: trailers", "Forwarded: host=other.example"]  # fmt: skip
GET_OF_OTHER = "GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODIES = ["", "", "", f"Content-Length: {len(GET_OF_OTHER)}\r\n\r\n{GET_OF_OTHER}",
          "Content-Length: 0\r\n\r\n", "Content-Length: -1\r\n\r\n", "Content-Length: +1\r\n\r\na",
          "Content-Length: 1, 1\r\n\r\na", "Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
          "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "Content-Length: x\r\n\r\n",
          "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
          "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          f"Transfer-Encoding: chunked\r\n\r\n28\r\n{GET_OF_OTHER}\r\n0\r\n\r\n",
          "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\na=b\r\n0\r\nX: y\r\nHost: other.example\r\n\r\n",
          "Transfer-Encoding: chunked\r\n\r\nx\r\n", "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
          "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
          "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "Transfer-Encoding: gzip\r\n\r\n",
          "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: \r\n\r\n",
          "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
          "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]  # fmt: skip
assert len(GET_OF_OTHER) == 0x28


@dataclass(frozen=True)
class Answered:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@pytest.fixture(scope="module")
def parts(module_stack: Stack) -> dict[str, Part]:
    _fill(module_stack.postgres_url)
    return {name: module_stack.redirector(REDIRECTOR_SERVER=name) for name in SERVERS}


def _fill(url: str) -> None:
    links = {
        "plain": {},
        "other": {},
        "last": {"target": LAST_TARGET},
        "forever": {"redirect_status": 301},
        "gone": {"deleted": True},
        "off": {"enabled": False},
        "forward": {"forward_query": True, "forward_path": True},
    }
    for host, some_links in (("localhost", links), ("other.example", {"plain": {}})):
        rows = {
            code: {"target": f"https://{code}.example/{host}"} | columns
            for code, columns in some_links.items()
        }
        add_links(url, rows, host=host)


def some(choices: list, *, usually: float) -> object:
    return choices[0] if random.random() < usually else random.choice(choices)


def generate() -> bytes:
    """Return a request without the blank line, if it has none of its own."""
    target = f"{random.choice(BEFORE)}{some(CODES, usually=0.4)}{some(AFTER, usually=0.5)}"
    lines = [f"{some(METHODS, usually=0.6)} {target} {some(VERSIONS, usually=0.85)}".rstrip(" ")]
    lines += [f"{random.choice(NAMES)}: {host}" for host in some(HOSTS, usually=0.6)]
    lines += random.sample(FIELDS, random.choice([0, 0, 1, 1, 2, 4]))
    head, body = lines[0], some(BODIES, usually=0.7)
    fields = lines[1:]
    random.shuffle(fields)
    text = "".join(f"{line}\r\n" for line in [head, *fields]) + (body or "\r\n")
    return text.encode()


def closing(sent: bytes) -> bytes:
    """Return the request with `Connection: close` behind its first line."""
    line, end, rest = sent.partition(b"\r\n")
    return line + end + b"Connection: close\r\n" + rest


async def talk(part: Part, pieces: list[bytes], *, head: bool) -> list[Answered]:
    """Send the pieces as packets of their own; return all answers until the server closes."""
    address = urlsplit(part.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    responses: list[Answered] = []
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        while line := await reader.readline():
            status = int(line.split()[1])
            headers, size = [], 0
            while (line := await reader.readline()) != b"\r\n":
                name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
                if name.lower() == "content-length":
                    size = int(value)
                if name.lower() not in {"date", "connection"}:
                    headers.append((name.lower(), value))
            if status == 100:
                continue
            body = b"" if head and not responses else await reader.readexactly(size)
            responses.append(Answered(status, tuple(sorted(headers)), body))
    finally:
        writer.close()
    return responses


async def compare(parts: dict[str, Part], sent: bytes) -> str | None:
    """Return what differs between the ways to send `sent`, or None."""
    head = sent.startswith(b"HEAD ")
    whole = sent + LAST
    # Only the head is cut: an answer may come before a fault in the body, or before what follows.
    end = sent.partition(b"\r\n\r\n")[0]
    cuts = sorted(random.sample(range(1, len(end)), 6))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    ways = {"close": [closing(sent)], "keep-alive": [whole], "cut": pieces}
    found = {}
    for mode, parts_of in ways.items():
        for server, part in parts.items():
            found[mode, server] = await asyncio.wait_for(talk(part, parts_of, head=head), 20)
    firsts = {way: responses[:1] for way, responses in found.items()}
    if len(set(map(tuple, firsts.values()))) != 1 or not firsts["close", "direct"]:
        return f"{sent[:300]!r} is answered in different ways: {firsts}"
    for (mode, server), responses in found.items():
        rest = [dict(response.headers).get("location") for response in responses[1:]]
        if rest not in ([], [LAST_TARGET]) or (mode == "close" and rest):
            return f"{sent[:300]!r} gives other answers behind it: {mode} {server} {responses}"
    if len(found["keep-alive", "direct"]) != len(found["keep-alive", "asgi"]):
        return f"{sent[:300]!r} closes the connection on one server only"
    return None


async def test_every_way_to_send_a_request_gives_the_same_answer(parts: dict[str, Part]) -> None:
    for _ in range(0, CASES, TOGETHER):
        cases = [generate() for _ in range(TOGETHER)]
        found = await asyncio.gather(*(compare(parts, sent) for sent in cases))
        assert not any(found), "\n".join(difference for difference in found if difference)
