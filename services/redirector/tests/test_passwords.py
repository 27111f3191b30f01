"""Links with a password, and who may try how often."""

import asyncio

import pytest
from argon2 import PasswordHasher

from redirector import redirects
from redirector.clients import Clients

HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("open sesame")


async def post(app, password, **options):
    return await app.http.post("/abc", data={"password": password}, **options)


async def test_the_right_password_leads_on_and_a_wrong_one_does_not(run, table):
    await table.link("abc", "https://secret.example/", password_hash=HASH)
    app = await run()
    form, peek = await app.get("/abc"), await app.get("/abc+")
    assert (form.status_code, form.headers["cache-control"]) == (200, "no-store")
    assert "secret.example" not in form.text + peek.text
    assert (await post(app, "wrong")).status_code == 403
    right = await post(app, "open sesame")
    assert (right.status_code, right.headers["location"]) == (303, "https://secret.example/")
    assert right.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("with_redis", [True, False])
async def test_too_many_wrong_passwords_are_refused_for_a_minute(run, table, clock, with_redis):
    await table.link("abc", password_hash=HASH)
    more = {} if with_redis else {"redis_url": "redis://127.0.0.1:1"}
    app = await run(password_attempts=2, **more)
    statuses = [(await post(app, word)).status_code for word in ("a", "open sesame", "b", "c")]
    assert statuses == [403, 303, 403, 429]
    assert (await post(app, "open sesame")).headers["retry-after"] == "60"


@pytest.mark.parametrize("body", [b"", b"password", b"password=%FF&x", b"x" * 5000])
async def test_a_form_that_cannot_be_read_is_refused(run, table, body):
    await table.link("abc", password_hash=HASH)
    answer = await (await run()).http.post("/abc", content=body)
    assert answer.status_code in {400, 413}


async def test_a_form_that_does_not_arrive_is_not_waited_for(run, table, monkeypatch):
    async def begun():
        yield b"password="
        await asyncio.Event().wait()

    monkeypatch.setattr(redirects, "FORM_WITHIN_S", 0.05)
    app = await run()
    async with asyncio.timeout(5):
        assert (await app.http.post("/abc", content=begun())).status_code == 408
    assert (await app.http.post("/abc", content=b"x" * 5000)).status_code == 413
    counts = app.redirector.counts
    for status in (408, 413):
        assert counts.values[counts.answer("malformed", status)] == 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        (None, "203.0.113.7", "unknown"),
    ],
)
def test_only_trusted_proxies_may_name_the_client(peer, forwarded, client):
    assert Clients({"10.0.0.0/8"}).address(peer, forwarded) == client
