"""Links with a password, and who may try how often."""

import asyncio
import time

import pytest
from argon2 import PasswordHasher

from redirector.client_address import MAX_HOPS, ClientAddresses
from redirector.links import service

HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("open sesame")

COMPOSED, DECOMPOSED = "cr\u00e8me", "cre\u0300me"


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
    statuses = []
    for word in ("a", "open sesame", "b", "c"):
        statuses.append((await post(app, word)).status_code)
        app.http.cookies.clear()  # the right one's would stand for the password
    assert statuses == [403, 303, 403, 429]
    assert (await post(app, "open sesame")).headers["retry-after"] == "60"


async def test_wrong_passwords_count_over_all_redirectors(run, table, redis_prefix):
    await table.link("abc", password_hash=HASH)
    apps = [await run(password_attempts=2) for _ in range(3)]
    assert [(await post(app, "wrong")).status_code for app in apps] == [403, 403, 429]
    # Redis refused the third, so its redirector refuses the next ones without asking Redis.
    redis = apps[2].redirector.store._client
    await redis.delete(*await redis.keys(f"{redis_prefix}t:*"))
    assert (await post(apps[2], "open sesame")).status_code == 429
    assert (await post(apps[0], "open sesame")).status_code == 303


@pytest.mark.parametrize(
    "body",
    [
        b"", b"other=1", b"password=%FF&x", b"password=\xff", b"password=&password=open+sesame",
        b"x" * 5000, b"password=open+sesame" + b"&x" * 8,
    ],
)  # fmt: skip
async def test_a_form_that_cannot_be_read_is_refused(run, table, body):
    await table.link("abc", password_hash=HASH)
    response = await (await run()).http.post("/abc", content=body)
    assert response.status_code in {400, 413}


@pytest.mark.parametrize("body", [b"password=", b"password", b"password=&x=1"])
async def test_an_empty_password_asks_again_without_a_check(run, table, body):
    await table.link("abc", password_hash=HASH)
    app = await run(password_attempts=1)
    for _ in range(3):
        response = await app.http.post("/abc", content=body)
        assert (response.status_code, "<form" in response.text) == (200, True)
    assert (await post(app, "open sesame")).status_code == 303


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, b"password=open+sesame&", 303),
        ("application/x-www-form-urlencoded; charset=UTF-8", b"&a=1&password=open%20sesame&", 303),
        ("Application/JSON", b'{"password": "open sesame", "more": [1]}', 303),
        ("application/json", b'{"password": ""}', 200),
        ("application/json", b'{"password": "wrong"}', 403),
        ("application/json", b'{"password": null}', 400),
        ("application/json", b"{}", 400),
        ("application/json", b'{"password": "\\ud800"}', 400),
        ("application/json", b'{"x": ' + b"[" * 4000, 400),
        ("application/json", b'"\xff"', 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--", 415),
        ("text/plain", b"password=open+sesame", 415),
    ],
)  # fmt: skip
async def test_a_form_and_json_are_read_and_other_types_are_refused_with_a_sentence(
    run, table, content_type, body, status
):
    await table.link("abc", password_hash=HASH)
    headers = {"content-type": content_type} if content_type else {}
    response = await (await run()).http.post("/abc", content=body, headers=headers)
    assert response.status_code == status
    assert ("Send the password as" in response.text) == (status == 415)


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
async def test_a_password_is_right_in_either_unicode_form(run, table, stored):
    # The writer stores the composed form; hashes from before hold the text as it was sent.
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash(stored)
    await table.link("abc", password_hash=hashed)
    app = await run()
    assert (await post(app, DECOMPOSED)).status_code == 303
    app.http.cookies.clear()
    assert (await post(app, COMPOSED)).status_code == (303 if stored == COMPOSED else 403)
    app.http.cookies.clear()
    assert (await post(app, "creme")).status_code == 403


async def test_a_form_that_does_not_arrive_is_not_waited_for(run, table, monkeypatch):
    async def begun():
        yield b"password="
        await asyncio.Event().wait()

    monkeypatch.setattr(service, "FORM_WITHIN_S", 0.05)
    await table.link("abc", password_hash=HASH)
    app = await run()
    async with asyncio.timeout(5):
        assert (await app.http.post("/abc", content=begun())).status_code == 408
    assert (await app.http.post("/abc", content=b"x" * 5000)).status_code == 413
    counts = app.redirector.counts
    for status in (408, 413):
        assert counts.values[counts.response("malformed", status)] == 1


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
    assert ClientAddresses({"10.0.0.0/8"}).address(peer, forwarded) == client


def test_a_bounded_number_of_proxies_is_believed():
    client_addresses = ClientAddresses({"10.0.0.0/8"})
    proxies = [f"10.0.0.{number}" for number in range(1, MAX_HOPS)]
    assert (
        client_addresses.address("10.0.0.99", ",".join(["203.0.113.7", *proxies])) == "203.0.113.7"
    )
    more = [f"10.1.{number >> 8}.{number & 255}" for number in range(6000)]
    began = time.process_time()
    assert (
        client_addresses.address("10.0.0.99", ",".join(["203.0.113.7", *more])) == more[-MAX_HOPS]
    )
    assert time.process_time() - began < 0.005
