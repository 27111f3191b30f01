"""The running process: it starts with nothing there, and drains before it goes."""

import http.client
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.proxy import Mode, Proxy
from harness.stack import Part, Stack
from harness.waiting import until

from shortctl.dev.services import command
from shortctl.embedded.ports import free_port

SERVERS = ["direct", "asgi"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def connected(part: Part) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
    # The default domain by its name: before the domains are known no other host has links.
    connection.request("GET", path, headers={"Host": "localhost"})
    response = connection.getresponse()
    response.read()
    return response


def get(part: Part, path: str) -> http.client.HTTPResponse:
    with connected(part) as connection:
        return ask(connection, path)


def exit_code(part: Part) -> int:
    process = part.child._process
    assert process is not None
    return int(process.wait(15))


async def test_it_starts_with_everything_down_and_finds_all_that_comes_up(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.link("abc", host="localhost")
    with Proxy(database_url) as postgres, Proxy(redis_url) as redis:
        for wire in (postgres, redis):
            wire.set(Mode.REFUSE)
        with Stack(server_folder, postgres.url, redis.url) as stack:
            part = stack.redirector(REDIRECTOR_SERVER=server)
            response = get(part, "/abc")
            assert (response.status, response.getheader("retry-after")) == (503, "1")
            assert get(part, "/nobody").status == 503
            assert part.metric('shortlinks_lookup_total{layer="local",result="miss"}') == 2
            assert get(part, "/robots.txt").status == 200
            assert part.ask("/livez")[0] == part.ask("/readyz")[0] == 200
            for wire in (postgres, redis):
                wire.set(Mode.PASS)
            until(lambda: get(part, "/abc").status == 302, "the link is found")
            until(
                lambda: get(part, "/nobody").status == 404,
                "PostgreSQL says that there is no such link",
            )


async def test_it_drains_on_sigterm_and_tells_each_connection_to_close(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.link("hot", host="localhost")
    await table.link("cold", host="localhost")
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server, DRAIN_DELAY_MS="60000")
        with connected(part) as first, connected(part) as second, connected(part) as third:
            for connection in (first, second, third):
                response = ask(connection, "/hot")
                assert (response.status, response.getheader("connection")) == (302, None)
            part.child.send(signal.SIGTERM)
            until(lambda: part.ask("/readyz")[0] == 503, "the redirector is not ready")
            assert part.ask("/livez")[0] == 200
            for connection, path, status in (
                (first, "/hot", 302), (second, "/cold", 302), (third, "/nobody", 404),
            ):  # fmt: skip
                response = ask(connection, path)
                assert (response.status, response.getheader("connection")) == (status, "close")
            # Clients that do not know of the drain yet are still served.
            assert get(part, "/hot").status == 302
        part.child.send(signal.SIGTERM)  # the second one: do not wait for the rest
        assert exit_code(part) == 0
        with pytest.raises(ConnectionRefusedError):
            get(part, "/hot")


@pytest.mark.parametrize("server", ["direct", "asgi"])
def test_a_taken_port_ends_the_start_with_a_sentence(server: str, server_folder: Path) -> None:
    stack = Stack(server_folder, "postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        ended = subprocess.run(
            command("shortlinks-redirector", "serve"),
            env=stack.environment(
                REDIRECTOR_SERVER=server,
                REDIRECTOR_PORT=port,
                REDIRECTOR_ADMIN_PORT=str(free_port()),
            ),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 2
    assert port in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_request_that_waits_for_its_link_when_the_end_comes_is_answered_and_closed(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    await table.link("cold", host="localhost")
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server, POSTGRES_TIMEOUT_MS="9000")
        locked = table.connection.transaction()
        await locked.start()
        await table.connection.execute("LOCK TABLE links")
        with connected(part) as waiting, connected(part) as leaving:
            for connection in (waiting, leaving):
                connection.request("GET", "/cold")
            until(
                lambda: part.metric('shortlinks_lookup_total{layer="local",result="miss"}') == 2,
                "both wait",
            )
            leaving.close()  # a client that disconnects does not affect others
            part.child.send(signal.SIGTERM)
            until(lambda: part.ask("/readyz")[0] == 503, "the drain has begun")
            await locked.rollback()
            response = waiting.getresponse()
            assert (response.status, response.getheader("connection")) == (302, "close")
            assert response.getheader("location") == "https://target.example/"
        assert exit_code(part) == 0


async def test_what_comes_behind_a_request_that_waits_is_answered_after_it(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    for code in ("hot", "cold", "rules"):
        await table.link(code, f"https://{code}.example/", host="localhost",
                         forward_query=code == "rules")  # fmt: skip
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server, POSTGRES_TIMEOUT_MS="9000")
        assert get(part, "/hot").status == 302
        locked = table.connection.transaction()
        await locked.start()
        await table.connection.execute("LOCK TABLE links")
        host, port = urlsplit(part.url).netloc.split(":")
        paths = ("/cold", "/hot", "/rules?a=1", "/cold+", "/hot")
        sent = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths)
        with socket.create_connection((host, int(port)), timeout=15) as sock:
            sock.sendall(sent.encode())
            until(
                lambda: part.metric('shortlinks_lookup_total{layer="local",result="miss"}') > 1,
                "the first waits",
            )
            await locked.rollback()
            stream = sock.makefile("rb")
            found = []
            for _ in paths:
                response = http.client.parse_headers(stream) if stream.readline() else None
                assert response is not None
                found.append(response["location"])
                stream.read(int(response["content-length"]))
        assert found == [
            "https://cold.example/", "https://hot.example/", "https://rules.example/?a=1", None,
            "https://hot.example/",
        ]  # fmt: skip


async def test_an_answer_in_place_of_100_continue_closes_the_connection(
    server: str, server_folder: Path, database_url: str, redis_url: str, table
) -> None:
    """The client may leave out the body then, and its next request would be taken for that body."""
    for code, status in (("hot", 302), ("kept", 307)):
        await table.link(code, host="localhost", redirect_status=status)
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(REDIRECTOR_SERVER=server)
        address = urlsplit(part.url)

        def ask_all(*requests: bytes) -> bytes:
            with socket.create_connection((address.hostname, address.port), timeout=30) as sock:
                sock.sendall(b"".join(requests))
                return sock.makefile("rb").read()

        for start in (b"GET /hot", b"GET /hot", b"HEAD /hot", b"POST /kept", b"POST /hot"):
            head = start + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            response = ask_all(head, b"Expect: 100-continue\r\n\r\n")
            assert response.startswith((b"HTTP/1.1 30", b"HTTP/1.1 405")), start
            # With the whole body there is no doubt where the next request begins.
            last = b"GET /hot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            responses = ask_all(head, b"Expect: 100-continue\r\n\r\n12345", last)
            assert responses.count(b"HTTP/1.1 ") == 2, start
