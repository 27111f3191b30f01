import redis
from harness.databases import fetch

from shortctl.embedded.ports import free_port


def test_a_healthy_stack_passes_with_one_line_per_part(shortctl, writer):
    done = shortctl("doctor")
    assert done.exit_code == 0, done.output
    for part in ("postgres", "redis", "schema", "outbox", "clicks", "clocks", "coherence", "api"):
        assert part in done.stdout
    assert "FAIL" not in done.stdout


def test_no_password_is_shown(shortctl, writer):
    password = writer.postgres_url.partition("shortlinks:")[2].partition("@")[0]
    assert password
    assert password not in shortctl("doctor").output


def test_every_unavailable_part_fails_with_advice(shortctl, writer, monkeypatch):
    unused_address = f"127.0.0.1:{free_port()}"
    done = shortctl(
        "doctor",
        "--postgres-url", f"postgresql://u:secret@{unused_address}/x",
        "--redis-url", f"redis://{unused_address}",
        "--redirector-url", f"http://{unused_address}",
        "--url", f"http://{unused_address}",
    )  # fmt: skip
    assert done.exit_code == 1
    assert done.stdout.count("FAIL") == 4
    assert done.stdout.count("→") == 4
    assert "secret" not in done.output


def test_an_old_schema_fails_with_the_command_that_upgrades_it(
    shortctl, writer, blank_database_url
):
    done = shortctl("doctor", "--postgres-url", blank_database_url)
    assert done.exit_code == 1
    assert "shortctl migrate" in done.stdout


def test_an_invalid_api_key_fails(shortctl, writer):
    done = shortctl("doctor", "--key", "sl_wrong")
    assert done.exit_code == 1
    assert "keys list" in done.stdout


def test_an_old_outbox_entry_fails_with_advice_to_start_a_relay(shortctl, writer):
    fetch(
        writer.postgres_url,
        "INSERT INTO outbox (id, domain_id, host, code, version, created_at) "
        "OVERRIDING SYSTEM VALUE "
        "VALUES (0, 1, 'go.example', 'x', 1, now() - interval '5 minutes') RETURNING 1",
    )
    done = shortctl("doctor")
    assert done.exit_code == 1
    assert "shortlinks-writer relay" in done.stdout


def test_an_old_click_that_no_worker_has_counted_fails_with_advice(shortctl, writer, redis_prefix):
    with redis.Redis.from_url(writer.redis_url) as client:
        client.xadd(f"{redis_prefix}clicks:{{2}}", {"d": b""}, id="1000-0")
    done = shortctl("doctor")
    assert done.exit_code == 1
    assert "no worker reads streams 0, 1, 2, 3" in " ".join(done.stdout.split())
    assert "shortlinks-writer worker" in done.stdout


def test_the_reader_of_each_stream_is_shown_and_a_counted_click_is_not_late(
    shortctl, writer, redis_prefix
):
    with redis.Redis.from_url(writer.redis_url) as client:
        client.xadd(f"{redis_prefix}clicks:{{0}}", {"d": b""}, id="1000-0")
    fetch(
        writer.postgres_url,
        "INSERT INTO click_streams (stream, position, owner, lease_until) VALUES "
        "(0, '1000-0', 'first', now() + interval '1 hour'), "
        "(1, '0-0', 'second', now() + interval '1 hour'), "
        "(2, '0-0', 'first', now() + interval '1 hour'), "
        "(3, '0-0', 'ended', now() - interval '1 hour') RETURNING 1",
    )
    done = shortctl("doctor")
    assert done.exit_code == 0, done.output
    readers = "first reads streams 0, 2; no worker reads stream 3; second reads stream 1"
    assert readers in " ".join(done.stdout.split())


def test_a_stream_that_was_emptied_and_filled_again_is_not_taken_as_counted(
    shortctl, writer, redis_prefix
):
    with redis.Redis.from_url(writer.redis_url) as client:
        client.xadd(f"{redis_prefix}clicks:{{0}}", {"d": b""}, id="1000-0")
    fetch(
        writer.postgres_url,
        "INSERT INTO click_streams (stream, position) VALUES (0, '2000-0') RETURNING 1",
    )
    assert shortctl("doctor").exit_code == 1


def test_an_incoherent_cache_fails(shortctl, writer, redis_prefix):
    assert shortctl("links", "create", "https://example.com/", "--code", "x").exit_code == 0
    with redis.Redis.from_url(writer.redis_url) as client:
        client.set(f"{redis_prefix}l:{{go.example/x}}", b"\0" * 7 + b"\x7f\x92\x7f\x01")
    done = shortctl("doctor")
    assert done.exit_code == 1
    assert "cache rebuild" in done.stdout
