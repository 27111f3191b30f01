"""Passwords of links under attack: honest visitors get in, and what waits is bounded."""

import asyncio
import itertools
import random
import signal
import socket
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from harness.stack import Stack
from harness.tables import add_links
from harness.visitor import Visitor
from harness.waiting import until_async

from redirector.passwords import check
from shortcore.links.record import LinkKey

HASH = PasswordHasher(time_cost=1, memory_cost=1024).hash("open sesame")
SLOW_HASH = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash("open sesame")
CONNECTIONS = 60
TRIES = 12


def post(visitor: Visitor, path: str, password: str, address: str):
    return visitor.request("POST", path, {"password": password}, {"X-Forwarded-For": address})


def addresses():
    seed = random.Random(11)
    while True:
        yield ".".join(str(seed.randrange(1, 255)) for _ in range(4))


async def guess(url: str, path: str, source) -> None:
    """Guess one wrong password after the other, each from another address."""
    async with Visitor(url) as visitor:
        for number in itertools.count():
            await post(visitor, path, f"wrong{number}", next(source))


async def try_often(url: str, path: str, address: str) -> list[tuple[int, float]]:
    async with Visitor(url) as visitor:
        found = []
        for _ in range(TRIES):
            response = await post(visitor, path, "open sesame", address)
            found.append((response.status, response.seconds))
        return found


@pytest.fixture(scope="module")
def url(module_stack: Stack) -> str:
    add_links(
        module_stack.postgres_url,
        {code: {"password_hash": HASH} for code in ("attacked", "quiet")},
    )
    settings = {"PASSWORD_LINK_CHECKS_PER_S": "100", "PASSWORD_LINK_BURST": "1"}
    return module_stack.redirector(**settings).url


async def test_sixty_guessing_connections_lock_out_nobody(url: str) -> None:
    source = addresses()
    guessing = [asyncio.ensure_future(guess(url, "/attacked", source)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(1)
    try:
        honest, quiet = await asyncio.gather(
            try_often(url, "/attacked", "192.0.2.1"), try_often(url, "/quiet", "192.0.2.2")
        )
    finally:
        assert not any(task.done() for task in guessing)
        for task in guessing:
            task.cancel()
        await asyncio.gather(*guessing, return_exceptions=True)
    assert [status for status, _ in honest] == [303] * TRIES
    assert [status for status, _ in quiet] == [303] * TRIES
    # One round of the queue is 60 checks, of which 100 a second are let through.
    assert max(seconds for _, seconds in honest) < 5
    assert sum(seconds for _, seconds in quiet) < sum(seconds for _, seconds in honest)


async def test_the_passwords_of_clients_that_hung_up_take_no_turn(run, table) -> None:
    await table.link("abc", password_hash=SLOW_HASH)
    app = await run(
        password_link_checks_per_s=0.001, password_link_burst=1, trusted_proxies="192.0.2.9"
    )
    passwords = app.redirector.unlock._passwords
    assert (await app.http.post("/abc", data={"password": "wrong"})).status_code == 403
    posts = [
        asyncio.ensure_future(
            app.http.post(
                "/abc",
                data={"password": "x"},
                headers={"x-forwarded-for": f"198.51.{n}.1"},
            )
        )
        for n in range(5)
    ]
    # One has its turn, and waits for the limit of the link.
    await until_async(lambda: len(passwords) >= 4, "four checks wait")
    for each in posts:
        each.cancel()
    await asyncio.gather(*posts, return_exceptions=True)
    assert len(passwords) == 0
    assert passwords.results["abandoned"] == 5


async def test_a_client_that_hangs_up_is_noticed_by_the_server(url: str) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    flood = b"".join([
        b"POST /attacked HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n",
        b"X-Forwarded-For: %b\r\n\r\npassword=x",
    ])  # fmt: skip
    source = addresses()
    for _ in range(600):  # twice what may wait for one link: none of it is there afterwards
        with socket.create_connection((host, port), timeout=5) as sock:
            sock.sendall(flood % next(source).encode())
    async with Visitor(url) as visitor:
        response = await post(visitor, "/attacked", "open sesame", "192.0.2.3")
    assert response.status == 303
    assert response.seconds < 3


async def test_a_check_waits_no_longer_than_its_limit(run, table) -> None:
    await table.link("abc", password_hash=HASH)
    app = await run(password_link_checks_per_s=0.001, password_link_burst=1, password_wait_ms=1000)
    assert (await app.http.post("/abc", data={"password": "wrong"})).status_code == 403
    response = await app.http.post("/abc", data={"password": "open sesame"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "password" in response.text
    assert app.redirector.unlock._passwords.results["timeout"] == 1


async def test_a_check_that_waits_is_answered_when_the_process_stops(
    server_folder, database_url, redis_url, table
) -> None:
    await table.link("abc", host="localhost", password_hash=HASH)
    with Stack(server_folder, database_url, redis_url) as stack:
        part = stack.redirector(
            PASSWORD_LINK_CHECKS_PER_S="0.001", PASSWORD_LINK_BURST="1", DRAIN_TIMEOUT_MS="1000"
        )
        async with Visitor(part.url) as first, Visitor(part.url) as second:
            assert (await post(first, "/abc", "wrong", "192.0.2.1")).status == 403
            waiting = [
                asyncio.ensure_future(post(each, "/abc", "x", f"192.0.2.{number}"))
                for number, each in enumerate((first, second), 2)
            ]
            # One has its turn and waits for the limit of the link, the other waits in the queue.
            await until_async(
                lambda: part.metric("shortlinks_password_waiting") >= 1, "a check waits"
            )
            part.child.send(signal.SIGTERM)
            for response in await asyncio.gather(*waiting):
                assert (response.status, response.header("retry-after")) == (503, "5")
                assert response.header("connection") == "close"


async def test_more_than_may_wait_is_answered_at_once(run, table) -> None:
    await table.link("abc", password_hash=HASH)
    app = await run(
        password_link_checks_per_s=0.001, password_link_burst=1, password_link_queue_size=3,
        password_wait_ms=1000, trusted_proxies="192.0.2.9",
    )  # fmt: skip
    await app.http.post("/abc", data={"password": "wrong"})
    posts = [
        app.http.post("/abc", data={"password": "x"}, headers={"x-forwarded-for": f"10.0.{n}.1"})
        for n in range(3 + 1 + 5)
    ]
    responses = await asyncio.gather(*posts)
    assert {response.status_code for response in responses} == {503}
    results = app.redirector.unlock._passwords.results
    assert results["queue_full"] + results["timeout"] == len(posts)
    assert results["queue_full"] >= 5


async def test_right_passwords_use_up_no_limit(run, table) -> None:
    await table.link("abc", password_hash=HASH)
    app = await run(password_attempts=1, password_link_checks_per_s=0.001, password_link_burst=2)
    async with asyncio.timeout(10):
        for _ in range(8):
            assert (
                await app.http.post("/abc", data={"password": "open sesame"})
            ).status_code == 303
            app.http.cookies.clear()


@pytest.mark.parametrize("password_hash", [None, SLOW_HASH], ids=["open", "locked"])
async def test_a_form_is_never_sent_on_to_the_target(
    run, table, redis_prefix, password_hash
) -> None:
    await table.link("abc", password_hash=HASH, redirect_status=307)
    app = await run(password_link_checks_per_s=0.5, password_link_burst=1)
    await app.http.post("/abc", data={"password": "wrong"})
    waiting = asyncio.ensure_future(app.http.post("/abc", data={"password": "open sesame"}))
    await asyncio.sleep(0.2)  # it waits for the limit of its link
    await table.edit("abc", password_hash=password_hash)
    app.redirector.cache.entries.clear()
    redis = app.redirector.store._client
    await redis.delete(*await redis.keys(f"{redis_prefix}l:*"))
    response = await waiting
    assert response.status_code == (303 if password_hash is None else 200)
    assert ("location" in response.headers) == (password_hash is None)


async def test_a_fault_in_one_check_stops_no_other(run, table, monkeypatch) -> None:
    await table.link("abc", password_hash=HASH)
    app = await run()
    with monkeypatch.context() as patch:
        patch.setattr(check, "normalise_password", lambda _: 1 / 0)
        assert (await app.http.post("/abc", data={"password": "x"})).status_code == 503
    assert (await app.http.post("/abc", data={"password": "open sesame"})).status_code == 303


async def test_counters_of_many_addresses_are_bounded(run, table) -> None:
    app = await run(redis_url="redis://127.0.0.1:1")
    rate_limit = app.redirector.unlock._passwords._rate_limit
    for _, address in zip(range(12_000), addresses(), strict=False):
        await rate_limit.attempt(LinkKey("go.example/abc"), address)
    assert len(rate_limit._local) == 10_000
