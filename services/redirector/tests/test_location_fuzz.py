"""Whatever bytes a visitor sends, the answer's head stays ours: fuzzed over a real socket."""

import re
import socket
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.tables import add_links
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

BASE = "https://t.example/b?x=1#f"
OURS = {
    "cache-control", "connection", "content-length", "content-security-policy", "content-type",
    "date", "location", "referrer-policy", "retry-after", "server", "x-content-type-options",
    "x-robots-tag", "allow",
}  # fmt: skip
REFERENCE = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})+")
"""The characters of an RFC 3986 reference without an IPv6 address."""

hostile = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [
                b"\r\n", b"\n", b"\r", b"\r\nX-Injected: 1", b"%0d%0a", b"%0D%0AX-Injected:%201",
                b"%00", b"\x00", b"\x7f", b"\t", b"#", b"?", b"&", b"%", b"%zz", b"/", b"\\",
                b"%5c", b"\xe2\x80\xa8", b"\xc3\xa9", b"\xff", b"%e5%98%8a%e5%98%8d", b"//evil",
                b" HTTP/1.1\r\nX-Injected: 1\r\n\r\n", b"<script>", b'"', b"@", b":",
            ]
        ),
    ),
    max_size=6,
).map(b"".join)  # fmt: skip

# What a parser lets through, so that it comes as far as our own code.
mild = st.lists(
    st.one_of(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8).map(str.encode),
        st.binary(min_size=1, max_size=3).map(lambda raw: b"".join(b"%%%02x" % b for b in raw)),
    ),
    max_size=4,
).map(b"".join)
visitor_bytes = st.one_of(mild, mild, hostile)


EVIL = "https://t.example/b\r\nX-Injected: 1\n\t\x7f\u202eé<script>"
"""A target that the API would never store; somebody wrote it into the table."""

OVER = datetime(2020, 1, 1, tzinfo=UTC)
LINKS = {
    "fwd": {"target": BASE, "forward_query": True, "forward_path": True},
    "old": {"target": BASE, "forward_query": True, "expires_at": OVER, "expired_target": BASE},
    "hot": {"target": BASE},
    "row": {"target": EVIL},
    "rule": {"target": EVIL, "forward_query": True, "forward_path": True},
    "over": {"target": BASE, "forward_query": True, "expires_at": OVER, "expired_target": EVIL},
}


@pytest.fixture(scope="module")
def filled(module_stack: Stack) -> Stack:
    add_links(module_stack.postgres_url, LINKS)
    return module_stack


@pytest.fixture(params=["direct", "asgi"], scope="module")
def part(request, filled: Stack) -> Part:
    return filled.redirector(REDIRECTOR_SERVER=request.param)


def send(part: Part, head: bytes) -> bytes:
    """Return all that is answered to `head` and the lines that close the request."""
    address = urlsplit(part.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as wire:
        wire.sendall(head + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        response = b""
        try:
            while data := wire.recv(65536):
                response += data
        except ConnectionResetError:
            pass  # it refused, and did not read the rest
        return response


def heads(response: bytes) -> list[tuple[int, list[tuple[str, bytes]]]]:
    """Split the answers on one connection strictly; each line of a head must be a header."""
    found = []
    while response:
        head, _, response = response.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = re.fullmatch(rb"HTTP/1\.[01] (\d{3})( [ -~]*)?", first)
        assert status, first
        headers = []
        for line in lines:
            assert b"\n" not in line, line
            assert b"\r" not in line, line
            name, colon, value = line.partition(b":")
            assert colon, line
            headers.append((name.decode("ascii").lower(), value.strip(b" ")))
        sizes = [int(value) for name, value in headers if name == "content-length"]
        chunked = any(name == "transfer-encoding" for name, _ in headers)
        assert len(sizes) == (not chunked), headers
        response = b"" if chunked else response[sizes[0] :]
        found.append((int(status[1]), headers))
    return found


def test_no_bytes_of_a_visitor_get_into_the_head_as_they_are(part: Part) -> None:
    redirects: list[bytes] = []

    @example(code=b"fwd", rest=b"", query=b"\r\nX-Injected: 1")
    @example(code=b"fwd", rest=b"%0d%0aX-Injected:1", query=b"%0d%0aX-Injected:1")
    @example(code=b"fwd", rest=b"\xc3\xa9\x00\x7f", query=b"\xff\x85")
    @example(code=b"hot", rest=b"", query=b"a=\x0bb")
    # Some seeds draw next to nothing that a parser lets through: these always arrive.
    @example(code=b"fwd", rest=b"a", query=b"")
    @example(code=b"fwd", rest=b"", query=b"q=%0d%0a")
    @example(code=b"fwd", rest=b"a/%C3%A9", query=b"q=1&r=2")
    @example(code=b"fwd", rest=b"%0d%0aX:1", query=b"%00")
    @example(code=b"old", rest=b"", query=b"a=%7f")
    @given(
        code=st.sampled_from([b"fwd", b"fwd", b"old", b"hot", b"none"]),
        rest=visitor_bytes,
        query=visitor_bytes,
    )
    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
    def check(code: bytes, rest: bytes, query: bytes) -> None:
        path = b"/" + code + (b"/" + rest if rest else b"")
        for status, headers in heads(send(part, b"GET " + path + b"?" + query)):
            names = [name for name, _ in headers]
            # A server's own refusal (400) is in no code of ours.
            assert status == 400 or set(names) <= OURS, headers
            assert names.count("location") == (300 <= status < 400), headers
            for name, value in headers:
                if name == "location":
                    assert REFERENCE.fullmatch(value), value
                    assert value.startswith(b"https://t.example/b"), value
                    assert value.endswith(b"#f"), value
                    assert value.count(b"#") == 1, value
                    redirects.append(value)

    check()
    assert len(set(redirects)) > 5, "nothing was forwarded: the test sees nothing"


def escaped(raw: bytes) -> bytes:
    """Return `raw` as RFC 3986 has it in a query."""
    allowed = rb"[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%(?=[0-9A-Fa-f]{2})"
    return b"".join(
        raw[at : at + 1] if re.match(allowed, raw[at:]) else b"%%%02X" % raw[at]
        for at in range(len(raw))
    )


@pytest.mark.parametrize(
    "query", [b"q=a%20b%C3%A9&r=%0D%0A", b"q=<\"'>\\^`{|}[]", b"%", b"a=%zz%4", b"a=b?c=d/e"]
)
def test_a_query_arrives_as_it_was_sent(part: Part, query: bytes) -> None:
    [(status, headers)] = heads(send(part, b"GET /fwd?" + query))
    if status == 400:  # a stricter parser: these may not stand in a query (RFC 3986, 3.4)
        assert set(query) & set(b"<\"'>\\^`{|}[]")
        return
    assert status == 302
    assert dict(headers)["location"] == b"https://t.example/b?x=1&" + escaped(query) + b"#f"


@pytest.mark.parametrize("query", ["q=é".encode(), "q=日本".encode()])
def test_unescaped_utf_8_is_escaped_once_or_refused(part: Part, query: bytes) -> None:
    [(status, headers)] = heads(send(part, b"GET /fwd?" + query))
    assert status in {302, 400}
    if status == 302:
        assert dict(headers)["location"] == b"https://t.example/b?x=1&" + escaped(query) + b"#f"


@pytest.mark.parametrize(
    "path", [b"/row", b"/rule/c%0d%0a?d=\\", b'/over?"<>|', b"/row+", b"/rule+"]
)
def test_no_row_of_the_table_gets_into_the_head_as_it_is(part: Part, path: bytes) -> None:
    for _ in ("from PostgreSQL", "from memory"):
        response = send(part, b"GET " + path)
        [(status, headers)] = heads(response)
        if status == 400:  # a stricter parser
            continue
        assert {name for name, _ in headers} <= OURS
        assert status == (200 if path.endswith(b"+") else 302)
        for name, value in headers:
            if name == "location":
                assert value.startswith(b"https://t.example/b"), value
                assert REFERENCE.fullmatch(value), value
        assert b"X-Injected: 1" not in response
        assert "\u202e".encode() not in response
        assert b"<script>" not in response
