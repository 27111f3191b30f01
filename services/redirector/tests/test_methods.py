"""Which methods a link answers, and what `Allow` says; over the ASGI application and real sockets."""

import pytest
from argon2 import PasswordHasher

READ = "GET, HEAD, OPTIONS"
ALL = f"{READ}, POST, PUT, PATCH, DELETE"
HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("sesame")
OTHERS = ("POST", "PUT", "PATCH", "DELETE")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_link_that_keeps_the_method_redirects_all_methods(run, table, clock, status):
    await table.link("abc", "https://t.example/?a=b", redirect_status=status)
    await table.link("rules", "https://t.example/", redirect_status=status, forward_query=True, forward_path=True)  # fmt: skip
    app = await run()
    for method in ("GET", "HEAD", *OTHERS):
        response = await app.http.request(method, "/abc", content=b"x" * 5000)
        assert (response.status_code, response.headers["location"]) == (
            status,
            "https://t.example/?a=b",
        )
        response = await app.http.request(method, "/rules/c?d=e")
        assert (response.status_code, response.headers["location"]) == (
            status,
            "https://t.example/c?d=e",
        )
    for method in ("OPTIONS", "TRACE", "PROPFIND"):
        response = await app.http.request(method, "/abc")
        assert response.status_code == (204 if method == "OPTIONS" else 405)
        assert response.headers["allow"] == ALL
        assert "location" not in response.headers


@pytest.mark.parametrize("status", [301, 302])
async def test_a_link_that_may_change_the_method_refuses_all_but_reading(run, table, status):
    await table.link("abc", redirect_status=status)
    app = await run()
    for method in (*OTHERS, "TRACE"):
        response = await app.http.request(method, "/abc", content=b"x")
        assert (response.status_code, response.headers["allow"]) == (405, READ)
        assert response.text == f"Allowed here: {READ}.\n"
    options = await app.http.options("/abc")
    assert (options.status_code, options.headers["allow"]) == (204, READ)
    assert options.content == b""
    assert "content-length" not in options.headers


async def test_a_setting_keeps_such_links_to_reading(run, table):
    await table.link("abc", redirect_status=307)
    app = await run(redirect_other_methods=False)
    assert (await app.http.post("/abc")).headers["allow"] == READ
    assert (await app.http.options("/abc")).headers["allow"] == READ
    assert (await app.get("/abc")).status_code == 307


async def test_a_protected_link_takes_the_form_of_its_password_and_nothing_else(run, table):
    await table.link("abc", "https://t.example/", redirect_status=308, password_hash=HASH)
    app = await run()
    for method in ("PUT", "PATCH", "DELETE"):
        response = await app.http.request(method, "/abc", content=b"password=sesame")
        assert (response.status_code, response.headers["allow"]) == (405, f"{READ}, POST")
    assert (await app.http.options("/abc")).headers["allow"] == f"{READ}, POST"
    assert (await app.http.post("/abc", data={"password": "sesame"})).status_code == 303
    assert (await app.http.post("/abc", content=b"x" * 5000)).status_code == 413


async def test_a_body_that_nobody_needs_is_not_waited_for(run, table):
    await table.link("abc", redirect_status=307)
    app = await run()

    async def never():
        raise AssertionError("it was read")
        yield b""

    assert (await app.http.post("/abc", content=never())).status_code == 307
    assert (await app.http.put("/none", content=never())).status_code == 404


async def test_a_posted_visit_is_counted_and_limited_as_any_other(run, table):
    await table.link("abc", redirect_status=307, max_visits=2)
    app = await run()
    statuses = [(await app.http.request(method, "/abc")).status_code for method in (*OTHERS, "GET")]
    assert statuses == [307, 307, 410, 410, 410]


async def test_what_is_not_there_gives_other_methods_what_get_gets(run, table):
    await table.link("gone", deleted=True)
    await table.link("off", enabled=False)
    app = await run()
    for path, status in (("/gone", 410), ("/off", 404), ("/none", 404), ("/a.b", 404)):
        for method in ("GET", "OPTIONS", *OTHERS):
            assert (await app.http.request(method, path)).status_code == status, (method, path)
    for path in ("/", "/robots.txt", "/favicon.ico"):
        for method, status in (("OPTIONS", 204), ("POST", 405), ("TRACE", 405)):
            response = await app.http.request(method, path)
            assert (response.status_code, response.headers["allow"]) == (status, READ)
    await table.link("abc")
    preview = await app.http.post("/abc+")
    assert (preview.status_code, preview.headers["allow"]) == (405, READ)


async def test_a_link_that_leads_back_here_is_refused_with_any_method(run, table):
    await table.link("abc", "https://go.example/abc", redirect_status=307)
    app = await run()
    for method in ("GET", *OTHERS):
        assert (await app.http.request(method, "/abc")).status_code == 508
