"""Clients that offer HTTP/2 by Upgrade get the answers that others get.

Java's HttpClient does so by default, curl with `--http2`. The bytes below are what Java 17 sends.
"""

import json
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.stack import Stack

JAVA = (
    "POST {path} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {size}\r\n"
    "Host: localhost\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
    "Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\nAuthorization: Bearer {key}\r\n"
    "Content-Type: {kind}\r\n\r\n"
)
FORM = "application/x-www-form-urlencoded"
REDIRECTORS = {"direct": 1, "asgi": 2}


def new_link(number: int) -> str:
    return json.dumps({"target": f"https://java.example/{number}"})


def send(url: str, path: str, kind: str, body: str, key: str, *, cut: str) -> tuple[int, str]:
    """Send what Java sends and return status and head of the answer."""
    address = urlsplit(url)
    head = JAVA.format(path=path, size=len(body), kind=kind, key=key)
    whole = (head + body).encode()
    pieces = {
        "nowhere": [whole],
        "behind the head": [head.encode(), body.encode()],
        "everywhere": [whole[at : at + 1] for at in range(len(whole))],
    }[cut]
    with socket.create_connection((address.hostname, address.port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        answer = sock.makefile("rb")
        lines = list(iter(answer.readline, b"\r\n"))
    return int(lines[0].split()[1]), b"".join(lines).decode()


@pytest.mark.parametrize("cut", ["nowhere", "behind the head", "everywhere"])
def test_what_java_posts_to_the_api_makes_a_link(stack: Stack, cut: str) -> None:
    url = stack.parts[0].url
    status, head = send(
        url, "/api/v1/links", "application/json", new_link(1), stack.api_key, cut=cut
    )
    assert status == 201, head


@pytest.mark.parametrize("cut", ["nowhere", "behind the head", "everywhere"])
@pytest.mark.parametrize("server", REDIRECTORS)
def test_what_java_posts_to_a_protected_link_opens_it(stack: Stack, server: str, cut: str) -> None:
    url = stack.parts[REDIRECTORS[server]].url
    status, head = send(url, "/locked", FORM, "password=sesame", "", cut=cut)
    assert status == 303, head
    assert "location: https://locked.example/" in head


def test_an_admin_port_answers_what_java_posts_once(stack: Stack) -> None:
    for part in stack.parts:
        status, _ = send(part.admin_url, "/livez", FORM, "a=b", "", cut="behind the head")
        assert status == 405


@pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK is installed")
def test_the_http_client_of_java_posts_by_default(stack: Stack) -> None:
    program = Path(__file__).parent / "clients" / "Post.java"
    writer, direct, asgi = stack.parts
    posts = [
        ([f"{writer.url}/api/v1/links", "application/json", new_link(2), stack.api_key], "201"),
        *(([f"{part.url}/locked", FORM, "password=sesame"], "303") for part in (direct, asgi)),
    ]
    for arguments, status in posts:
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0] == status, done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_posts_with_http2(stack: Stack) -> None:
    writer, direct, asgi = stack.parts
    key = f"Authorization: Bearer {stack.api_key}"
    posts = [
        (["-H", key, "--json", new_link(3), f"{writer.url}/api/v1/links"], "201"),
        *((["-d", "password=sesame", f"{part.url}/locked"], "303") for part in (direct, asgi)),
    ]
    for arguments, status in posts:
        command = ["curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_code}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout, done.stderr) == (status, "")
