"""The process: what stops its start, in one line each, and a PostgreSQL that goes away."""

import asyncio
import os
import subprocess

import asyncpg
import httpx
import pytest
from harness.stack import Stack

from shortctl.devparts import command
from shortctl.embedded import EmbeddedPostgres
from shortctl.ports import free_port
from writer.migrations import upgrade

LINK = {"target": "https://example.com/"}


def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    names = {
        "POSTGRES_URL": "postgresql://127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "CODE_SECRET": "a secret for the tests",
        "WRITER_HOST": "127.0.0.1",
        "WRITER_PORT": "0",
        "WRITER_ADMIN_PORT": "0",
    } | settings
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SHORTLINKS_")}
    return subprocess.run(
        command("shortlinks-writer", *arguments),
        env=clean | {f"SHORTLINKS_{name}": value for name, value in names.items()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_each_fault_of_the_settings_is_one_line(database_url):
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


def test_migrating_an_empty_and_then_a_present_schema_works_and_an_absent_server_is_one_line(
    blank_database_url,
):
    for _ in range(2):
        assert run("migrate", POSTGRES_URL=blank_database_url).returncode == 0
    assert refusal(run("migrate")).count("\n") == 1


def test_a_taken_port_stops_the_start_with_one_line(server_folder, database_url, redis_url):
    with Stack(server_folder, database_url, redis_url) as stack:
        port = stack.writer().url.rpartition(":")[2]
        said = refusal(run("serve", POSTGRES_URL=database_url, WRITER_PORT=port))
        assert f"127.0.0.1:{port}" in said
        assert said.count("\n") == 1


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
def test_a_stopped_postgresql_is_a_503_and_nothing_is_half_done(server_folder, redis_url):
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
    connection = await asyncpg.connect(url)
    try:
        rows: int = await connection.fetchval("SELECT count(*) FROM outbox WHERE code <> ''")
        return rows
    finally:
        await connection.close()
