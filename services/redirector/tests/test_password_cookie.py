"""The cookie of a visitor who gave the right password: what it opens, and what it does not."""

import re

import pytest
from argon2 import PasswordHasher

from .test_passwords import HASH, post

COOKIE = re.compile(
    r"shortlinks-visitor=(\d+)\.([\w-]{43}); Path=/abc; Max-Age=900; HttpOnly; SameSite=Lax"
)
OTHER_HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("open sesame")


async def prove(app, path="/abc", **options):
    """Give the right password; returns the cookie's value."""
    response = await app.http.post(path, data={"password": "open sesame"}, **options)
    assert response.status_code == 303
    app.http.cookies.clear()
    return response.headers["set-cookie"].partition(";")[0]


def get(app, cookie, path="/abc", method="GET"):
    return app.http.request(method, path, headers={"cookie": cookie})


async def test_who_was_right_is_not_asked_again_by_any_redirector(run, table):
    await table.link("abc", "https://secret.example/", password_hash=HASH)
    app, other = await run(), await run()
    response = await post(app, "open sesame")
    assert COOKIE.fullmatch(response.headers["set-cookie"])
    again = await app.get("/abc")
    assert (again.status_code, again.headers["location"]) == (303, "https://secret.example/")
    assert again.headers["cache-control"] == "no-store"
    assert "set-cookie" not in again.headers
    cookie = response.headers["set-cookie"].partition(";")[0]
    for method in ("GET", "HEAD", "POST"):
        response = await get(other, f"a=b; {cookie}; c=d", method=method)
        assert (response.status_code, "set-cookie" in response.headers) == (303, False)
    assert "password" in (await get(app, cookie, "/abc+")).text  # the preview shows nothing more


async def test_a_wrong_password_sets_no_cookie(run, table):
    await table.link("abc", password_hash=HASH)
    app = await run()
    for response in (await post(app, "wrong"), await post(app, ""), await app.get("/abc")):
        assert "set-cookie" not in response.headers


async def test_a_cookie_ends_with_its_time_and_with_its_password(run, table, clock, redis_prefix):
    await table.link("abc", password_hash=HASH)
    await table.link("def", id=2, password_hash=HASH)
    app = await run(l1_ttl_s=0.001)
    cookie = await prove(app)
    assert (await get(app, cookie, "/def")).status_code == 200
    clock.advance(899)
    assert (await get(app, cookie)).status_code == 303
    clock.advance(1)
    assert (await get(app, cookie)).status_code == 200
    cookie = await prove(app)
    await table.edit("abc", password_hash=OTHER_HASH)  # of the same password
    redis = app.redirector.store._client
    await redis.delete(*await redis.keys(f"{redis_prefix}l:*"))
    clock.advance(1)
    assert (await get(app, cookie)).status_code == 200
    assert (await prove(app)) != cookie


async def test_a_forged_cookie_opens_nothing(run, table, clock):
    await table.link("abc", password_hash=HASH)
    app, stranger = await run(), await run(code_secret="another secret of this length")
    cookie = await prove(app)
    name, expiry, mac = re.fullmatch(r"([\w-]+)=(\d+)\.([\w-]+)", cookie).groups()
    flipped = mac[:-2] + ("A" if mac[-2] != "A" else "B") + mac[-1]
    forged = [
        f"{name}={int(expiry) + 1}.{mac}", f"{name}=0{expiry}.{mac}", f"{name}={expiry}.{flipped}",
        f"{name}={expiry}.{mac}=", f"{name}={expiry}.", f"{name}=.{mac}", f"{name}=", name,
        f"{name}={'9' * 5000}.{mac}", f"x{cookie}", f"{name}={expiry}.{mac[:-1]}",
        f"{name}=\x00", "; ".join([f"{name}=1.{mac}"] * 500),
    ]  # fmt: skip
    for text in forged:
        assert (await get(app, text)).status_code == 200, text
    assert (await get(stranger, cookie)).status_code == 200
    assert (await get(app, cookie)).status_code == 303
    assert app.redirector.unlock.cookies_seen["refused"] >= 10


async def test_a_shorter_lifetime_counts_for_cookies_made_before(run, table):
    await table.link("abc", password_hash=HASH)
    cookie = await prove(await run(password_cookie_ttl_s=7200))
    assert (await get(await run(), cookie)).status_code == 200
    assert (await get(await run(password_cookie_ttl_s=0), cookie)).status_code == 200
    off = await run(password_cookie_ttl_s=0)
    assert "set-cookie" not in (await post(off, "open sesame")).headers


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({"x-forwarded-proto": "https"}, True),
        ({"X-Forwarded-Proto": "http, https"}, True),
        ({"forwarded": 'for=192.0.2.1;proto=https;by="[2001:db8::1]"'}, True),
        ({"x-forwarded-proto": "http"}, False),
        ({}, False),
    ],
)
async def test_the_cookie_is_secure_behind_https(run, table, headers, secure):
    await table.link("abc", password_hash=HASH)
    response = await post(await run(), "open sesame", headers=headers)
    assert response.headers["set-cookie"].endswith("; Secure") == secure


async def test_a_cookie_uses_up_visits_and_ends_with_the_last(run, table):
    await table.link("abc", password_hash=HASH, max_visits=2)
    app = await run()
    cookie = await prove(app)
    assert [(await get(app, cookie)).status_code for _ in range(3)] == [303, 410, 410]
    assert (await post(app, "open sesame")).status_code == 410
