"""The process: errors at its start in one line each, and a PostgreSQL that stops."""

import asyncio
import os
import socket
import subprocess

import asyncpg
import httpx
import pytest
from harness.proxy import Mode, Proxy
from harness.stack import Stack

from shortctl.dev.services import command
from shortctl.embedded import EmbeddedPostgres
from shortctl.embedded.ports import free_port
from writer.app.process import start_with_postgres
from writer.container import open_container
from writer.domains import repository
from writer.migrations import upgrade

LINK = {"target": "https://example.com/"}


def environment(
    postgres_url: str = "postgresql://127.0.0.1:1/none", **settings: str
) -> dict[str, str]:
    names = {
        "POSTGRES_URL": postgres_url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "CODE_SECRET": "a secret for the tests",
        "WRITER_HOST": "127.0.0.1",
        "WRITER_PORT": "0",
        "WRITER_ADMIN_PORT": "0",
    } | settings
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SHORTLINKS_")}
    return clean | {f"SHORTLINKS_{name}": value for name, value in names.items()}


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command("shortlinks-writer", *arguments),
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_each_error_in_the_settings_is_one_line(database_url):
    lines = refusal(run("serve", WRITER_PORT="x", TYPO="1", CODE_SECRET="short")).splitlines()
    assert [line.partition(":")[0] for line in sorted(lines)] == [
        "SHORTLINKS_CODE_SECRET",
        "SHORTLINKS_TYPO",
        "SHORTLINKS_WRITER_PORT",
    ]


async def test_a_schema_that_is_too_old_or_too_new_stops_the_start_with_one_sentence(
    blank_database_url, database_url
):
    said = refusal(run("serve", POSTGRES_URL=blank_database_url))
    assert "at revision 0" in said
    assert "run `shortctl migrate`" in said
    assert said.count("\n") == 1
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE schema_version SET revision = 9, oldest_code = 9")
    await connection.close()
    said = refusal(run("serve", POSTGRES_URL=database_url))
    assert "at revision 9" in said
    assert "install a newer version" in said
    assert said.count("\n") == 1


def test_a_key_is_printed_and_nothing_else(database_url, blank_database_url):
    done = run("create-key", "--name", "me", POSTGRES_URL=database_url)
    assert done.returncode == 0
    assert len(done.stdout) == 56
    assert done.stdout.startswith("sl_")
    assert done.stderr == ""
    said = refusal(run("create-key", "--name", "me", POSTGRES_URL=blank_database_url))
    assert said.count("\n") == 1
    assert "migrate" in said


def test_migrating_works_twice_and_a_missing_server_is_one_line(
    blank_database_url,
):
    for _ in range(2):
        assert run("migrate", POSTGRES_URL=blank_database_url).returncode == 0
    assert refusal(run("migrate", "--wait-s", "1")).count("\n") == 1


def test_migrating_a_newer_schema_is_an_error_only_if_it_needs_newer_code(database_url):
    """After a rollback, the older release's migration runs on the newer release's schema."""
    ahead = "UPDATE alembic_version SET version_num = '0009'"
    asyncio.run(rewrite(database_url, f"{ahead}; UPDATE schema_version SET revision = 9"))
    done = run("migrate", POSTGRES_URL=database_url)
    assert done.returncode == 0, done.stderr
    asyncio.run(rewrite(database_url, "UPDATE schema_version SET oldest_code = 9"))
    assert "install a newer version" in refusal(run("migrate", POSTGRES_URL=database_url))


def test_waiting_for_the_schema_ends_after_the_migration(blank_database_url):
    waiting = subprocess.Popen(
        command("shortlinks-writer", "wait-schema"), env=environment(blank_database_url)
    )
    with waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        assert run("migrate", POSTGRES_URL=blank_database_url).returncode == 0
        assert waiting.wait(60) == 0


def test_waiting_ends_with_one_sentence_at_the_timeout_and_at_once_if_newer_code_is_needed(
    blank_database_url, database_url
):
    said = refusal(run("wait-schema", "--wait-s", "1"))
    assert "did not answer within 1 s" in said
    assert said.count("\n") == 1
    said = refusal(run("wait-schema", "--wait-s", "1", POSTGRES_URL=blank_database_url))
    assert "at revision 0" in said
    assert said.count("\n") == 1
    asyncio.run(rewrite(database_url, "UPDATE schema_version SET revision = 9, oldest_code = 9"))
    said = refusal(run("wait-schema", POSTGRES_URL=database_url))
    assert "install a newer version" in said


def test_migrating_waits_for_a_server_that_is_just_starting(server_folder):
    server = EmbeddedPostgres(server_folder / "postgres")
    server.start()
    server.stop()
    with subprocess.Popen(
        command("shortlinks-writer", "migrate"), env=environment(server.url)
    ) as migrating:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                migrating.wait(2)
            server.start()
            assert migrating.wait(60) == 0
        finally:
            migrating.kill()
            server.stop()


def test_a_key_can_have_an_expiry(database_url):
    made = run("create-key", "--name", "me", "--expires-in-s", "60", POSTGRES_URL=database_url)
    assert made.returncode == 0
    life = asyncio.run(
        ask(database_url, "SELECT extract(epoch FROM expires_at - now()) FROM api_keys")
    )
    assert 30 < life <= 60
    for wrong in ("0", "-5", "1h", "99999999999"):
        refused = run("create-key", "--name", "me", "--expires-in-s", wrong)
        assert refused.returncode == 2
        assert "a whole number of seconds" in refused.stderr


def test_dynamic_settings_take_effect_without_a_restart(
    server_folder, database_url, redis_url, tmp_path
):
    file = tmp_path / "dynamic.yaml"
    file.write_text("default_redirect_status: 301\nreserved_codes: [mine]\n")
    with Stack(server_folder, database_url, redis_url) as stack:
        writer, relay, redirector = (
            start(DYNAMIC_FILE=str(file)) for start in (stack.writer, stack.relay, stack.redirector)
        )
        with stack.api(writer) as api:
            assert api.post("/api/v1/links", json=LINK).json()["redirect_status"] == 301
            assert api.post("/api/v1/links", json={**LINK, "code": "mine"}).status_code == 422
            first = writer.metric("shortlinks_config_generation")
            newer = tmp_path / "newer.yaml"
            newer.write_text("default_redirect_status: 308\nl1_ttl_s: 1\ncache_ttl_s: 60\n")
            newer.replace(file)  # at once: a file that is being written would be read half
            for part in (writer, relay, redirector):
                while part.metric("shortlinks_config_generation") in {0, first}:
                    assert part.child.running  # pytest's timeout ends it
            assert api.post("/api/v1/links", json=LINK).json()["redirect_status"] == 308
            assert api.post("/api/v1/links", json={**LINK, "code": "mine"}).status_code == 201


def test_a_port_in_use_stops_the_start_with_one_line(server_folder, database_url, redis_url):
    with Stack(server_folder, database_url, redis_url) as stack:
        port = stack.writer().url.rpartition(":")[2]
        said = refusal(run("serve", POSTGRES_URL=database_url, WRITER_PORT=port))
        assert f"127.0.0.1:{port}" in said
        assert said.count("\n") == 1


def test_a_port_in_use_stops_the_start_before_postgresql_is_contacted(server_folder, database_url):
    with socket.create_server(("127.0.0.1", 0)) as other, Proxy(database_url) as wire:
        wire.set(Mode.BLACK_HOLE)
        port = str(other.getsockname()[1])
        for settings in ({"WRITER_PORT": port}, {"WRITER_ADMIN_PORT": port}):
            said = refusal(run("serve", POSTGRES_URL=wire.url, **settings))
            assert f"127.0.0.1:{port}" in said
            assert said.count("\n") == 1


async def test_a_start_continues_after_one_timeout_of_postgresql(settings, monkeypatch):
    reads = []

    async def all_domains(connection):
        reads.append(1)
        if len(reads) == 1:
            raise TimeoutError
        return await read(connection)

    read = repository.all_domains
    monkeypatch.setattr(repository, "all_domains", all_domains)
    async with open_container(settings) as container:
        await start_with_postgres(container, "the URL")
        assert container.domain_cache.default is not None
        assert len(reads) >= 2


def test_the_writer_starts_and_creates_without_redis(server_folder, database_url):
    with Stack(server_folder, database_url, f"redis://127.0.0.1:{free_port()}") as stack:
        writer = stack.writer()
        with stack.api(writer) as api:
            assert api.post("/api/v1/links", json=LINK).status_code == 201
        assert writer.metric("shortlinks_links_created_total") == 1
        assert writer.metric("shortlinks_publish_failures_total") == 1
        sample = 'shortlinks_api_requests_total{method="POST",route="/api/v1/links",status="2xx"}'
        assert writer.metric(sample) == 1
        health = httpx.get(f"{writer.admin_url}/health").json()
        assert health["dependencies"]["postgres"]["ok"]


@pytest.mark.fault
def test_a_stopped_postgresql_is_a_503_and_leaves_no_partial_change(server_folder, redis_url):
    server = EmbeddedPostgres(server_folder / "postgres")
    server.start()
    try:
        upgrade(server.url)
        with Stack(server_folder, server.url, redis_url) as stack:
            with stack.api(stack.writer()) as api:
                made = [api.post("/api/v1/links", json=LINK).json()["self"]]
                server.stop()
                for send in (
                    lambda: api.post("/api/v1/links", json=LINK),
                    lambda: api.post("/api/v1/links:batch", json={"items": [LINK] * 3}),
                    lambda: api.patch(made[0], json={"title": "x"}),
                    lambda: api.get(made[0]),
                    lambda: api.get("/api/v1/links"),
                ):
                    answer = send()
                    assert answer.status_code == 503, answer.text
                    assert answer.json()["type"] == "urn:shortlinks:problem:database-unavailable"
                    assert int(answer.headers["retry-after"]) >= 1
                server.start()
                while (answer := api.post("/api/v1/links", json=LINK)).status_code == 503:
                    pass  # until the breaker lets a probe through; pytest's timeout ends it
                made.append(answer.json()["self"])
                assert answer.status_code == 201
                links = api.get("/api/v1/links", params={"sort": "created_at"}).json()["items"]
                assert [link["self"] for link in links] == made
                assert links[0]["title"] is None
            rows = asyncio.run(outbox(server.url))
            assert rows == len(made)
    finally:
        server.stop()


async def outbox(url: str) -> int:
    return int(await ask(url, "SELECT count(*) FROM outbox WHERE code <> ''"))


async def ask(url: str, query: str) -> float:
    connection = await asyncpg.connect(url)
    try:
        return float(await connection.fetchval(query))
    finally:
        await connection.close()


async def rewrite(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
