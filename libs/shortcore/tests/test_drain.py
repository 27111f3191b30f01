"""The drain of a real process: signals, ports, and clients with persistent connections."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from harness.waiting import until_async

from shortcore.runtime.connection_close import close_while_draining
from shortcore.runtime.health import Health, Phase
from shortcore.runtime.server import UvicornServer, bind
from shortctl.embedded.ports import free_port

SERVER = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from shortcore.runtime.admin import AdminApp
from shortcore.runtime.background import Background
from shortcore.runtime.drain import run
from shortcore.runtime.server import UvicornServer
from shortcore.runtime.health import Health
from shortcore.runtime.logging import configure
from shortcore.runtime.loop_lag import LoopLag

configure("info", "json", "test")
public_port, admin_port, delay_ms, hang = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
health = Health()

background = Background()

async def crash():
    raise RuntimeError("injected")

async def app(scope, receive, send):
    if scope["path"] == "/crash":
        background.run_forever("crashing", crash())
    if scope["path"] == "/slow":
        print("slow", flush=True)
        await asyncio.sleep(0.5)
    headers = [(b"content-length", b"2")]
    if not health.ready:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})

async def start():
    if hang == "hang":
        print("starting", flush=True)
        await asyncio.Event().wait()

async def broken():
    print("broken flush", flush=True)
    raise RuntimeError("broken flush")

async def last():
    print("flushed", flush=True)

asyncio.run(run(
    health=health, lag=LoopLag(CollectorRegistry()), background=background,
    admin=UvicornServer(AdminApp(health, CollectorRegistry(), "test"), "127.0.0.1", admin_port),
    public=UvicornServer(app, "127.0.0.1", public_port),
    drain_delay_ms=delay_ms, drain_timeout_ms=5000,
    start=[start], flush=[broken, last],
))
print("end", flush=True)
"""


class Running:
    def __init__(self, delay_ms, start="quick"):
        self.port, self.admin = free_port(), free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.port), str(self.admin), str(delay_ms), start],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    async def readiness(self):
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{self.admin}/readyz")).status_code
            except httpx.TransportError:
                return None

    async def until_readiness(self, wanted):
        async def reached():
            return await self.readiness() == wanted

        await until_async(reached, f"readiness is {wanted}", 60)

    def hurry(self):
        """Skip what is left of the delay: for tests whose delay must not end before they do."""
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # the second one does; a drain may have had none
            self.process.send_signal(number)

    async def end(self):
        code = await asyncio.to_thread(self.process.wait, 60)
        return code, self.process.stdout.read().split("\n")


@pytest.fixture
def running():
    made = []

    def start(**options):
        made.append(Running(**options))
        return made[-1]

    yield start
    for each in made:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.process.wait()
        each.process.stdout.close()


async def test_a_server_under_load_drains_without_a_failed_request(running):
    server = running(delay_ms=60_000)
    await server.until_readiness(200)
    draining = asyncio.Event()
    answers = []

    async def client():
        # Like a load balancer: it closes its connection when the server asks for it.
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                response = await http.get(f"http://127.0.0.1:{server.port}/")
                answers.append(response.status_code)
                if response.headers.get("connection") == "close":
                    draining.set()
                    return

    clients = [asyncio.create_task(client()) for _ in range(8)]
    while len(answers) < 100:
        assert not any(each.done() for each in clients)
        await asyncio.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    assert draining.is_set()
    assert set(answers) == {200}
    server.hurry()
    code, _ = await server.end()
    assert code == 0


async def test_a_process_serves_but_is_not_ready_during_the_drain_delay(running):
    server = running(delay_ms=60_000)
    await server.until_readiness(200)
    server.process.send_signal(signal.SIGTERM)
    await server.until_readiness(503)
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"http://127.0.0.1:{server.port}/")).status_code == 200
    server.hurry()
    assert (await server.end())[0] == 0


async def test_a_request_in_flight_is_finished_before_the_flush(running):
    server = running(delay_ms=0)
    await server.until_readiness(200)
    async with httpx.AsyncClient(trust_env=False) as http:
        slow = asyncio.create_task(http.get(f"http://127.0.0.1:{server.port}/slow"))
        assert await asyncio.to_thread(server.process.stdout.readline) == "slow\n"
        server.process.send_signal(signal.SIGTERM)
        assert (await slow).status_code == 200
    assert (await server.end())[0] == 0


async def test_every_flush_step_runs_even_if_one_before_it_failed(running):
    server = running(delay_ms=0)
    await server.until_readiness(200)
    server.process.send_signal(signal.SIGINT)
    code, lines = await server.end()
    assert (code, lines[:3]) == (0, ["broken flush", "flushed", "end"])


async def test_a_second_signal_skips_the_delay(running):
    server = running(delay_ms=60_000)
    await server.until_readiness(200)
    server.process.send_signal(signal.SIGTERM)
    await server.until_readiness(503)
    server.process.send_signal(signal.SIGTERM)
    assert (await server.end())[0] == 0


async def test_a_stall_does_not_use_up_the_drain_delay(running):
    """Neither the process nor its clients run meanwhile, as on a machine that is starved."""
    server = running(delay_ms=1000)
    await server.until_readiness(200)
    limits = httpx.Limits(keepalive_expiry=None)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as http:
        await http.get(f"http://127.0.0.1:{server.port}/")
        server.process.send_signal(signal.SIGTERM)
        await server.until_readiness(503)
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        server.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.3)
        response = await http.get(f"http://127.0.0.1:{server.port}/")
        assert (response.status_code, response.headers["connection"]) == (200, "close")
    assert (await server.end())[0] == 0


async def test_a_connection_accepted_before_the_end_of_the_delay_is_served_after_it(running):
    server = running(delay_ms=1000)
    await server.until_readiness(200)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as late:
        server.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=10).close()
            except ConnectionRefusedError:
                return True
            return False

        await until_async(refused, "new connections are refused")
        late.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await asyncio.to_thread(late.makefile("rb").read)
        assert response.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in response
    assert (await server.end())[0] == 0


async def test_a_signal_during_the_start_ends_the_process(running):
    server = running(delay_ms=0, start="hang")
    assert await asyncio.to_thread(server.process.stdout.readline) == "starting\n"
    assert await server.readiness() == 503
    server.process.send_signal(signal.SIGTERM)
    code, lines = await server.end()
    assert (code, lines[:2]) == (0, ["broken flush", "flushed"])


async def test_a_failed_background_task_ends_the_process_after_the_requests_in_flight(running):
    server = running(delay_ms=0)
    await server.until_readiness(200)
    async with httpx.AsyncClient(trust_env=False) as http:
        slow = asyncio.create_task(http.get(f"http://127.0.0.1:{server.port}/slow"))
        assert await asyncio.to_thread(server.process.stdout.readline) == "slow\n"
        crash = await http.get(f"http://127.0.0.1:{server.port}/crash")
        assert crash.status_code == 200
        assert (await slow).status_code == 200
    code, lines = await server.end()
    assert code == 1
    assert lines[-3:-1] == ["broken flush", "flushed"]


async def test_a_failed_background_task_ends_the_process_only_after_the_drain_delay(running):
    server = running(delay_ms=60_000)
    await server.until_readiness(200)
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"http://127.0.0.1:{server.port}/crash")
        await server.until_readiness(503)
        health = (await http.get(f"http://127.0.0.1:{server.admin}/health")).json()
        assert health["dependencies"]["background tasks"] == {
            "ok": False, "detail": "crashing: RuntimeError('injected')",
        }  # fmt: skip
        assert (await http.get(f"http://127.0.0.1:{server.port}/")).status_code == 200
    server.hurry()
    assert (await server.end())[0] == 1


def test_the_error_of_a_port_in_use_names_the_port():
    taken = bind("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
        UvicornServer(None, "127.0.0.1", port)
    taken.close()


async def test_responses_during_the_drain_ask_clients_to_close_their_connections():
    health = Health()
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    wrapped = close_while_draining(app, health)
    for phase in (Phase.READY, Phase.DRAINING):
        health.phase = phase
        await wrapped({"type": "http"}, None, send)
    assert sent[0]["headers"] == [(b"a", b"b")]
    assert sent[2]["headers"] == [(b"a", b"b"), (b"connection", b"close")]
