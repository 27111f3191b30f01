"""A scan by raw sockets from many addresses: every form of a request, and hardly a query."""

import random
import socket
import string
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.tables import add_links
from harness.waiting import until

ADDRESSES = [f"127.0.0.{number}" for number in range(1, 9)]
BODY = b"password=guess"
FORMS = (
    "GET /{code} HTTP/1.1", "HEAD /{code} HTTP/1.1", "GET /{code}?x=1 HTTP/1.1",
    "GET /{half}-{code} HTTP/1.1", "GET /{half}_{code} HTTP/1.1", "GET /{code}+ HTTP/1.1",
    "GET /{code}%2B HTTP/1.1", "GET /%{hex}{rest} HTTP/1.1", "HEAD /%{hex}{rest}?x HTTP/1.1",
    "GET /{code}/ HTTP/1.1", "GET /{code}/a/b?c=d HTTP/1.1", "GET /{code}? HTTP/1.1",
    "GET http://localhost/{code} HTTP/1.1", "GET /{code} HTTP/1.0", "POST /{code} HTTP/1.1",
    "POST /%{hex}{rest}?x HTTP/1.1", "POST /{code}/more HTTP/1.1",
)  # fmt: skip


def request(form: str, code: str) -> bytes:
    line = form.format(code=code, half=code[:4], hex=f"{ord(code[0]):02X}", rest=code[1:])
    head = f"{line}\r\nHost: localhost\r\nConnection: close\r\n"
    if line.startswith("POST"):
        kind = "application/x-www-form-urlencoded"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(BODY)}\r\n"
        return f"{head}\r\n".encode() + BODY
    return f"{head}\r\n".encode()


def ask(part: Part, form: str, code: str, address: str) -> int:
    """Return the status of the answer."""
    to = urlsplit(part.url)
    with socket.create_connection((to.hostname, to.port), 10, (address, 0)) as connection:
        connection.sendall(request(form, code))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return int(answer.split(b" ", 2)[1])


def made_up() -> str:
    return "".join(random.choices(string.ascii_letters, k=9))


def lookups(part: Part) -> float:
    return sum(
        part.metric(f'shortlinks_lookup_total{{layer="postgres",result="{result}"}}')
        for result in ("hit", "negative", "error", "outdated")
    )


@pytest.mark.parametrize("server", ["direct", "asgi"])
def test_a_scan_in_every_form_reaches_postgresql_with_next_to_no_lookup(
    stack: Stack, database_url: str, server: str
) -> None:
    add_links(database_url, {code: {"custom": True} for code in ("My-Page_1", "Promo")})
    stack.relay()
    part = stack.redirector(REDIRECTOR_SERVER=server, UNKNOWN_LOOKUPS_PER_S="2")
    until(
        lambda: part.metric("shortlinks_custom_codes_trusted") == 1,
        "the custom codes are trusted",
        details=lambda: part.child.tail(40),
    )
    for _ in range(60):  # the scan is noticed
        assert ask(part, FORMS[0], made_up(), ADDRESSES[0]) == 404
    before = lookups(part)
    asked = 0
    for turn in range(12):
        for at, form in enumerate(FORMS):
            address = ADDRESSES[(turn + at) % len(ADDRESSES)]
            assert ask(part, form, made_up(), address) == 404, form
            asked += 1
        # Links of every kind are found all the while.
        assert ask(part, FORMS[0], "My-Page_1", ADDRESSES[turn % 8]) == 302
        assert ask(part, FORMS[7], "Promo", ADDRESSES[turn % 8]) == 302
    assert lookups(part) - before <= 2 + asked / 20  # two links, and false positives
    assert part.metric('shortlinks_lookup_total{layer="codes",result="refused"}') >= asked * 0.9
