"""Limits and deadlines of connections on every port of the real processes."""

import contextlib
import http.client
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.stack import Part, Stack
from harness.waiting import until

from shortctl.dev.services import command
from shortctl.embedded.ports import free_port

QUICK = {
    "CONNECTION_HEAD_TIMEOUT_MS": "600",
    "CONNECTION_BODY_GRACE_MS": "600",
    "CONNECTION_WRITE_TIMEOUT_MS": "600",
    "CONNECTION_IDLE_TIMEOUT_MS": "600",
}
EARLY = {"direct": b"404", "asgi": b"404", "writer": b"401", "admin": b"404"}
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/v1/links HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture(params=["direct", "asgi", "writer", "relay"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def running(
    kind: str, folder: Path, database_url: str, redis_url: str, **settings: str
) -> Iterator[Part]:
    with Stack(folder, database_url, redis_url, settings) as stack:
        match kind:
            case "writer":
                yield stack.writer()
            case "relay":
                yield stack.relay()
            case _:
                yield stack.redirector(REDIRECTOR_SERVER=kind)


def opened(url: str, source: str = "") -> socket.socket:
    host, _, port = urlsplit(url).netloc.partition(":")
    origin = (source, 0) if source else None
    return socket.create_connection((host, int(port)), timeout=30, source_address=origin)


def rest(sock: socket.socket) -> bytes:
    """Return what comes before the server closes the connection."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65_536):
            got += part
    return got


def served(url: str, source: str = "") -> bool:
    """Return whether a new client gets an answer."""
    with opened(url, source) as sock:
        try:
            sock.sendall(GET)
            return sock.recv(65_536).startswith(b"HTTP/1.1 ")
        except ConnectionError:
            return False


def ended(part: Part, listener: str, reason: str) -> float:
    return part.metric(
        f'shortlinks_connections_ended_total{{listener="{listener}",reason="{reason}"}}'
    )


def ports(part: Part) -> dict[str, str]:
    return {"admin": part.admin_url} | ({"public": part.url} if part.url else {})


def test_every_port_ends_connections_that_take_too_long(
    kind: str, server_folder: Path, database_url: str, redis_url: str
) -> None:
    with running(kind, server_folder, database_url, redis_url, **QUICK) as part:
        for listener, url in ports(part).items():
            with contextlib.ExitStack() as stack:
                socks = {
                    sent: stack.enter_context(opened(url))
                    for sent in (b"", GET[:20], POST, GET, GET + GET[:20])
                }
                for sent, sock in socks.items():
                    sock.sendall(sent)
                answers = {sent: rest(sock) for sent, sock in socks.items()}
            assert answers[b""] == b""
            assert answers[GET[:20]].startswith(b"HTTP/1.1 408 ")
            # No handler here reads this body: each answers early, and the rest stalls.
            assert answers[POST].split(b" ")[1] == EARLY[kind if listener == "public" else "admin"]
            assert answers[GET].startswith(b"HTTP/1.1 ")
            assert b" 408 " not in answers[GET]
            assert answers[GET + GET[:20]].count(b"HTTP/1.1 ") == 2
            assert b"HTTP/1.1 408 " in answers[GET + GET[:20]]
            assert ended(part, listener, "silent") == 1
            assert ended(part, listener, "head_timeout") == 2
            assert ended(part, listener, "body_timeout") == 1
            assert ended(part, listener, "idle") >= 1
        log = part.child.tail(200)
        for reason in ("silent", "head_timeout", "body_timeout"):
            assert f'"{reason}"' in log


def test_the_api_answers_408_to_a_body_that_stalls(
    server_folder: Path, database_url: str, redis_url: str
) -> None:
    with Stack(server_folder, database_url, redis_url, QUICK) as stack:
        part = stack.writer()
        key = f"Content-Type: application/json\r\nAuthorization: Bearer {stack.api_key}\r\n\r\n".encode()
        with opened(part.url) as sock:
            sock.sendall(POST.replace(b"\r\n\r\n", b"\r\n" + key))
            assert rest(sock).startswith(b"HTTP/1.1 408 ")
        assert ended(part, "public", "body_timeout") == 1
        assert part.metric('shortlinks_http_refused_total{rule="timeout"}') == 1


@pytest.mark.parametrize("kind", ["direct", "asgi", "writer"])
def test_the_admin_port_answers_while_the_public_port_is_full(
    kind: str, server_folder: Path, database_url: str, redis_url: str
) -> None:
    limits = {"CONNECTIONS_MAX": "20", "CONNECTIONS_PER_ADDRESS_MAX": "0"}
    with (
        running(kind, server_folder, database_url, redis_url, **limits) as part,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(20):
            sock = stack.enter_context(opened(part.url))
            sock.sendall(GET[:20])
        opened_now = 'shortlinks_connections_open{listener="public"}'
        until(lambda: part.metric(opened_now) == 20, "20 connections are open")
        assert not served(part.url)
        assert part.ask("/readyz")[0] == 200
        assert ended(part, "public", "process_limit") >= 1
        assert part.metric('shortlinks_connections_max{listener="public"}') == 20


def test_one_address_cannot_take_all_connections_of_a_port(
    kind: str, server_folder: Path, database_url: str, redis_url: str
) -> None:
    limits = {
        "CONNECTIONS_PER_ADDRESS_MAX": "5",
        "ADMIN_CONNECTIONS_PER_ADDRESS_MAX": "5",
        "TRUSTED_PROXIES": "127.0.0.9",
    }
    with (
        running(kind, server_folder, database_url, redis_url, **limits) as part,
        contextlib.ExitStack() as stack,
    ):
        for url in ports(part).values():
            for source in ("127.0.0.2", "127.0.0.9"):
                for _ in range(5):
                    stack.enter_context(opened(url, source)).sendall(b"GET")
            assert not served(url, "127.0.0.2")
            assert served(url, "127.0.0.3")
            assert served(url, "127.0.0.9"), "a trusted proxy has no limit per address"
        for listener in ports(part):
            assert ended(part, listener, "address_limit") == 1
        assert '"address_limit"' in part.child.tail(200)


def test_a_flood_beyond_the_file_descriptors_leaves_the_admin_port_and_the_database(
    server_folder: Path, database_url: str, redis_url: str
) -> None:
    stack = Stack(server_folder, database_url, redis_url)
    port, admin = free_port(), free_port()
    environment = stack.environment(
        WRITER_PORT=str(port),
        WRITER_ADMIN_PORT=str(admin),
        FILE_DESCRIPTORS_RESERVED="100",
        CONNECTIONS_PER_ADDRESS_MAX="0",
    )
    # 200 files, of which the reserve and the admin port leave 36 to the public port.
    limited = ["/bin/sh", "-c", 'ulimit -n 200 && exec "$@"', "sh"]
    log = server_folder / "writer.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*limited, *command("shortlinks-writer", "serve")], env=environment, stderr=output
        )
    try:
        _until_ready(admin)
        with contextlib.ExitStack() as flood:
            process.send_signal(signal.SIGSTOP)  # so that it finds them all at once
            for _ in range(1000):
                sock = flood.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            process.send_signal(signal.SIGCONT)
            for _ in range(20):
                assert _ask(admin, "/livez") == 200
                assert _ask(admin, "/metrics") == 200
    finally:
        process.terminate()
        assert process.wait(20) == 0
    said = log.read_text()
    assert "connections_max lowered to the limit of open files" in said
    assert '"process_limit"' in said
    assert "Too many open files" not in said


def _until_ready(port: int) -> None:
    until(lambda: _ask(port, "/readyz") == 200, "the writer is ready", retry=(OSError,))


def _ask(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
