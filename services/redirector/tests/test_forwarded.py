"""The forwarded host is believed from trusted proxies only, and only as far as they wrote it."""

import contextlib
import http.client
import random
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.stack import Stack

from redirector.client_address import ClientAddresses
from redirector.domains.forwarded import MAX_HOPS, MAX_LENGTH, MalformedError, make_forwarded

CLIENTS = ClientAddresses({"10.0.0.0/8", "::1"})
PROXY, VISITOR = ("10.0.0.1", 1), ("203.0.113.9", 1)
NAMES = {"x-forwarded-host": b"X-Forwarded-Host", "forwarded": b"Forwarded"}


def host(header, value, peer=PROXY, forwarded_for=None):
    values = [value] if isinstance(value, str) else value
    fields = [(b"Host", b"internal")]
    fields += [(NAMES[header], each.encode("latin-1")) for each in values]
    if forwarded_for is not None:
        fields.append((b"X-Forwarded-For", forwarded_for.encode()))
    return dict(make_forwarded(header, CLIENTS)(fields, peer))[b"Host"].decode()


@pytest.mark.parametrize(
    ("value", "forwarded_for", "found"),
    [
        ("go.example", None, "go.example"),
        ("go.example:8443", None, "go.example:8443"),
        ("[2001:db8::1]:80", None, "[2001:db8::1]:80"),
        ("spoofed.example, go.example", None, "go.example"),
        ("spoofed.example, go.example", "203.0.113.9", "go.example"),
        # The second proxy wrote the last entry, the first one that before it.
        ("spoofed.example, go.example, proxy.internal", "203.0.113.9, 10.0.0.2", "go.example"),
        ("go.example, proxy.internal", "203.0.113.9, 10.0.0.2", "go.example"),
        ("go.example", "203.0.113.9, 10.0.0.2", "go.example"),
        (["spoofed.example", "go.example"], None, "go.example"),
        ("", None, "internal"),
    ],
)
def test_x_forwarded_host_is_read_as_far_as_proxies_are_trusted(value, forwarded_for, found):
    assert host("x-forwarded-host", value, forwarded_for=forwarded_for) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("host=go.example", "go.example"),
        ("For=203.0.113.9;Host=go.example;proto=https", "go.example"),
        ('for="[2001:db8::9]:4711";host="go.example:8443"', "go.example:8443"),
        ("for=203.0.113.9;host=go.example:8443", "go.example:8443"),
        (r'host="go\.example"', "go.example"),
        ("host=spoofed.example, for=203.0.113.9;host=go.example", "go.example"),
        ("for=203.0.113.9;host=go.example, for=10.0.0.2;host=proxy.internal", "go.example"),
        ("for=203.0.113.9;host=go.example, for=10.0.0.2", "go.example"),
        ("for=203.0.113.9;host=go.example, for=unknown;host=proxy.internal", "proxy.internal"),
        ("for=203.0.113.9;host=go.example, for=_hidden;host=proxy.internal", "proxy.internal"),
        (["host=spoofed.example", "for=203.0.113.9 ; host=go.example"], "go.example"),
        (" ,, host=go.example ;; ", "go.example"),
        ("for=203.0.113.9", "internal"),
        (",", "internal"),
    ],
)
def test_forwarded_is_read_as_far_as_proxies_are_trusted(value, found):
    assert host("forwarded", value) == found


@pytest.mark.parametrize("header", NAMES)
@pytest.mark.parametrize("peer", [VISITOR, None, ("", 0), ("unix:", 0)])
def test_another_peer_is_not_believed(header, peer):
    value = "host=spoofed.example" if header == "forwarded" else "spoofed.example"
    assert host(header, value, peer, forwarded_for="10.0.0.1") == "internal"
    assert host(header, "\x00 junk " * 9000, peer) == "internal"


def test_without_the_setting_no_header_is_believed():
    fields = [(b"Host", b"internal"), (b"X-Forwarded-Host", b"a"), (b"Forwarded", b"host=a")]
    assert make_forwarded("none", CLIENTS)(fields, PROXY) == fields


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-forwarded-host", value)
        for value in (
            "a b", "go.example/path", "http://go.example", "go.example:port", "a@b", "%67o", ",",
            "go.example,", "g\u00f6.example", "x" * 256, "a, " * MAX_HOPS + "a", "a\x00b",
            "a" * (MAX_LENGTH + 1), "go.example\\evil", "go.example:123456",
        )
    ]
    + [
        ("forwarded", value)
        for value in (
            'for="203.0.113.9;host=go.example', 'host="a"b', "host=a b", "host", "=a", "host==a",
            "host=a;host=b", 'host=""', "host=", r'host="a\"', "host = a", "for=1;host=a/b",
            'host="a, b"', "," * MAX_HOPS, "host=a" + ";" * MAX_LENGTH, "h\u00f6st=a", 'host="\x00"',
        )
    ],
)  # fmt: skip
def test_a_malformed_value_of_a_trusted_proxy_is_refused(header, value):
    with pytest.raises(MalformedError):
        host(header, value)


@pytest.mark.parametrize("header", NAMES)
def test_random_values_never_take_long_and_give_a_host_or_are_refused(header):
    pieces = ["host=", "for=", '"', "\\", ";", ",", "a", " ", "=", "10.0.0.1", "\t", "[", ":1"]
    chosen = random.Random(5)
    for _ in range(2000):
        value = "".join(chosen.choices(pieces, k=chosen.randrange(400)))
        began = time.process_time()
        with contextlib.suppress(MalformedError):
            assert host(header, value).isascii()
        assert time.process_time() - began < 0.05


@pytest.mark.parametrize("server", ["direct", "asgi"])
async def test_both_servers_take_the_forwarded_host(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.domain("localhost")
    for name in ("go.example", "localhost"):
        await table.link("abc", f"https://{name}.target/", host=name, forward_query=True)
        await table.link("plain", f"https://{name}.target/", host=name)
    origin = "https://app.example.com"
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(
            REDIRECTOR_SERVER=server,
            FORWARDED_HOST_HEADER="forwarded",
            TRUSTED_PROXIES="127.0.0.1",
            REDIRECTOR_CORS_ORIGINS=origin,
        )
        connection = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)

        def ask(path, **headers):
            connection.request("GET", path, headers={"Host": "localhost", **headers})
            response = connection.getresponse()
            response.read()
            return response

        for _ in range(2):
            for path, rest in (("/plain", ""), ("/abc?a=1", "?a=1")):
                response = ask(path, Forwarded="for=192.0.2.1;host=go.example")
                assert response.getheader("location") == f"https://go.example.target/{rest}"
                assert ask(path).getheader("location") == f"https://localhost.target/{rest}"
                crossing = ask(path, Forwarded="host=go.example", Origin=origin)
                assert crossing.getheader("location") == f"https://go.example.target/{rest}"
                assert crossing.getheader("access-control-allow-origin") == origin
            assert ask("/plain", Forwarded='host="go.example').status == 400
            assert ask("/plain", Forwarded="x" * 9000).status == 400
            # The proxy's own Host is judged before it is replaced.
            broken = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)
            sent = {"Host": "a b", "Forwarded": "host=go.example"}
            broken.request("GET", "/plain", headers=sent)
            assert broken.getresponse().status == 400
            broken.close()
        for path in ("/plain", "/abc?a=1", "/nothing", "/", "/plain+"):
            # A cache in front must not give one host's answer to another.
            assert ask(path).getheader("vary") == "Origin, Forwarded"
        refused = 'shortlinks_redirects_total{result="malformed_host",status="400"}'
        assert part.metric(refused) == 4
        connection.close()
        address, port = urlsplit(part.url).netloc.split(":")
        for hosts in (b"Host: a b\r\n", b"Host: localhost\r\nHost: localhost\r\n", b""):
            with socket.create_connection((address, int(port)), timeout=30) as sock:
                sock.sendall(
                    b"GET /plain HTTP/1.1\r\n" + hosts + b"Forwarded: host=go.example\r\n\r\n"
                )
                assert sock.makefile("rb").read().startswith(b"HTTP/1.1 400 "), hosts
        # A spoofed header from a peer that is not trusted.
        part = stack.redirector(
            REDIRECTOR_SERVER=server, FORWARDED_HOST_HEADER="forwarded", TRUSTED_PROXIES="192.0.2.1"
        )
        address, port = urlsplit(part.url).netloc.split(":")
        with socket.create_connection((address, int(port)), timeout=30) as sock:
            sock.sendall(
                b"GET /plain HTTP/1.1\r\nHost: localhost\r\nForwarded: host=go.example\r\n"
                b"X-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n"
            )
            answered = sock.makefile("rb").read()
        assert b"location: https://localhost.target/\r\n" in answered
