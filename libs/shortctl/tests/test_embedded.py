"""Embedded servers keep their data, end completely, and stop what a killed run left running."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from harness.waiting import until

from shortctl.embedded import Child, EmbeddedPostgres, EmbeddedValkey, ServerError
from shortctl.embedded.account import NAMESPACE, NOBODY, SELF, AccountError, reachable_by_nobody
from shortctl.embedded.ports import free_port

FAST = {"fsync": "off", "shared_buffers": "16MB"}
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
ROOT = os.geteuid() == 0

KEEPS_DATA = """
import sys
from pathlib import Path
from shortctl.embedded import EmbeddedPostgres, EmbeddedValkey
for server in (
    EmbeddedPostgres(Path(sys.argv[1]) / "postgres", options={"fsync": "off"}),
    EmbeddedValkey(Path(sys.argv[1]) / "valkey"),
):
    server.start(); server.kill(); server.start(); server.stop()
    assert not server.running
print("done")
"""


@pytest.fixture(params=["namespace", "nobody"] if ROOT else ["self"])
def account(request):
    accounts = {"namespace": NAMESPACE, "nobody": NOBODY, "self": SELF}
    if request.param == "namespace" and NAMESPACE.run(["/bin/sh", "-c", ":"]).returncode:
        pytest.skip("user namespaces are forbidden here")
    return accounts[request.param]


@pytest.fixture
def postgres(server_folder):
    server = EmbeddedPostgres(server_folder / "postgres", options=FAST)
    yield server
    server.stop()


@pytest.fixture
def valkey(server_folder):
    server = EmbeddedValkey(server_folder / "valkey")
    yield server
    server.stop()


@pytest.fixture
def other_process():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


async def query(server, sql):
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_rows_survive_a_stop_and_a_kill_under_every_account(server_folder, account):
    server = EmbeddedPostgres(server_folder / "postgres", options=FAST, account=account)
    try:
        server.start()
        await query(server, "CREATE TABLE kept AS SELECT 42 AS value")
        url = server.url
        server.kill()
        server.start()
        assert await query(server, "SELECT value FROM kept") == 42
        server.stop()
        server.start()
        assert await query(server, "SELECT value FROM kept") == 42
        assert server.url == url
    finally:
        server.stop()


async def test_a_new_object_for_the_same_folder_finds_the_data_and_the_password(
    postgres, server_folder
):
    postgres.start()
    await query(postgres, "CREATE TABLE kept AS SELECT 42 AS value")
    postgres.stop()
    later = EmbeddedPostgres(server_folder / "postgres", options=FAST)
    later.start()
    try:
        assert await query(later, "SELECT value FROM kept") == 42
    finally:
        later.stop()


async def test_the_database_is_utf8_and_its_password_file_has_mode_0600(postgres, server_folder):
    postgres.start()
    assert await query(postgres, "SHOW server_encoding") == "UTF8"
    assert await query(postgres, "SELECT upper('ä')") == "Ä"
    assert (server_folder / "postgres/password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url, password="guessed")


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="no PostgreSQL 15 on this machine")
async def test_binaries_of_another_postgresql_version_can_be_used(server_folder):
    server = EmbeddedPostgres(server_folder / "postgres", options=FAST, binaries=DEBIAN_15)
    server.start()
    try:
        assert (await query(server, "SHOW server_version")).startswith("15.")
        assert await query(server, "SELECT upper('ä')") == "Ä"
    finally:
        server.stop()


async def test_a_kill_ends_every_backend(postgres):
    postgres.start()
    connection = await asyncpg.connect(postgres.url)
    family = [process.pid for process in psutil.Process(postgres.pid).children(recursive=True)]
    assert connection.get_server_pid() in family
    postgres.kill()
    assert all(ended(pid) for pid in family)
    connection.terminate()


async def test_a_paused_server_answers_only_after_it_is_resumed(postgres):
    postgres.start()
    connection = await asyncpg.connect(postgres.url)
    postgres.pause()
    answer = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    postgres.resume()
    assert await answer == 1
    await connection.close()


@pytest.mark.parametrize("pid_file", ["kept", "lost"])
def test_a_start_stops_the_server_that_a_killed_run_left_running(postgres, server_folder, pid_file):
    postgres.start()
    if pid_file == "lost":  # then the lock file of PostgreSQL names the server
        (server_folder / "postgres/postgres.pid").unlink()
    later = EmbeddedPostgres(server_folder / "postgres", options=FAST)
    later.start()
    try:
        assert not postgres.running
        assert later.running
    finally:
        later.stop()


def test_a_lock_file_with_the_pid_of_another_process_prevents_no_start_and_that_process_survives(
    postgres, server_folder, other_process
):
    postgres.start()
    lock = server_folder / "postgres/data/postmaster.pid"
    text = lock.read_text()
    postgres.kill()
    lock.write_text(text.replace(str(postgres.pid), str(other_process.pid), 1))
    postgres.start()
    assert postgres.running
    assert other_process.poll() is None


def test_another_process_with_the_pid_of_an_earlier_run_is_not_stopped(
    server_folder, other_process
):
    child = Child("part", ["/bin/sleep", "60"], server_folder)
    identity = {
        "pid": other_process.pid,
        "created": psutil.Process(other_process.pid).create_time() - 60,
    }
    (server_folder / "part.pid").write_text(json.dumps(identity))
    assert not child.stop_left_over()
    assert other_process.poll() is None


def test_a_pid_file_that_a_crash_truncated_is_ignored(server_folder):
    (server_folder / "part.pid").write_text('{"pid": 1')
    assert Child("part", ["/bin/sleep", "60"], server_folder).left_over() is None


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_requested_port_in_use_is_an_error_with_the_last_log_lines(server_folder, kind):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = kind(server_folder / "server", port=taken.getsockname()[1])
        with pytest.raises(ServerError, match="Address already in use"):
            server.start()
        assert not server.running


def test_another_valkey_on_the_port_is_not_mistaken_for_this_one(valkey, server_folder):
    valkey.start()
    other = EmbeddedValkey(server_folder / "other", port=valkey.port)
    with pytest.raises(ServerError, match="Address already in use"):
        other.start()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_port_that_is_taken_before_the_start_is_chosen_again(server_folder, kind, monkeypatch):
    module = sys.modules[kind.__module__]
    really_free = module.free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1]])
        monkeypatch.setattr(module, "free_port", lambda: next(offers, None) or really_free())
        server = kind(server_folder / "server")
        server.start()
        server.stop()
        assert server.port != taken.getsockname()[1]


def test_valkey_is_empty_after_a_kill_and_keeps_its_port(server_folder, account):
    server = EmbeddedValkey(server_folder / "other", account=account)
    server.start()
    try:
        with redis.Redis.from_url(server.url, protocol=3) as client:
            client.set("link", "target")
            url = server.url
            server.kill()
            server.start()
            assert server.url == url
            assert client.get("link") is None
    finally:
        server.stop()


def test_memory_pressure_evicts_cached_links_and_never_a_stream(server_folder):
    server = EmbeddedValkey(server_folder / "valkey", options={"maxmemory": "4mb"})
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            client.xadd("changes", {"code": "first"})
            for number in range(600):
                client.set(f"l:{number}", "x" * 10_000, ex=600)
            assert client.info("stats")["evicted_keys"] > 0
            assert client.xlen("changes") == 1
    finally:
        server.stop()


def test_a_sentinel_starts_from_its_configuration_file(valkey, server_folder):
    valkey.start()
    configuration = server_folder / "sentinel.conf"
    configuration.write_text(f"sentinel monitor links 127.0.0.1 {valkey.port} 1\n")
    configuration.chmod(0o666)
    sentinel = EmbeddedValkey(
        server_folder / "sentinel", extra_args=(str(configuration), "--sentinel")
    )
    sentinel.start()
    try:
        with redis.Redis.from_url(sentinel.url, decode_responses=True) as client:
            address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "links")
            assert list(address) == ["127.0.0.1", str(valkey.port)]
    finally:
        sentinel.stop()


def test_a_cluster_node_starts_with_extra_arguments(server_folder):
    bus = str(free_port())  # the default is the port + 10000, which may not exist
    arguments = ("--cluster-enabled", "yes", "--cluster-port", bus)
    server = EmbeddedValkey(server_folder / "node", extra_args=arguments)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.info("cluster")["cluster_enabled"] == 1
    finally:
        server.stop()


def test_a_server_outlives_the_thread_that_started_it(valkey):
    thread = threading.Thread(target=valkey.start)
    thread.start()
    thread.join()
    with redis.Redis.from_url(valkey.url) as client:
        for _ in range(20):
            assert client.ping()
    assert valkey.running


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's death signal")
def test_servers_end_when_the_process_that_started_them_is_killed(server_folder):
    script = (
        "import sys, time; from pathlib import Path; from shortctl.embedded import *;"
        "v = EmbeddedValkey(Path(sys.argv[1])); v.start(); print(v.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(server_folder / "valkey")], stdout=subprocess.PIPE
    )
    pid = int(parent.stdout.readline())
    assert not ended(pid)
    parent.kill()
    parent.communicate()
    until(lambda: ended(pid), "the server has ended")


@pytest.mark.skipif(not ROOT, reason="all other tests run as an ordinary user")
def test_an_ordinary_user_can_run_both_servers(server_folder):
    folder = server_folder / "mine"
    folder.mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [next_interpreter(environment), "-c", KEEPS_DATA, str(folder)]
    os.chown(folder, NOBODY.uid, NOBODY.uid)
    done = subprocess.run(
        command,
        env=environment,
        user=NOBODY.uid,
        group=NOBODY.uid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


def next_interpreter(environment):
    """Return an interpreter that `nobody` can run; this one may be below /root."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [candidate, "-c", "import shortctl.embedded"],
                env=environment,
                user=NOBODY.uid,
                group=NOBODY.uid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no interpreter that other users can run")
    return None


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
def test_binaries_in_a_folder_closed_to_nobody_are_copied_where_nobody_can_run_them(server_folder):
    closed = server_folder / "closed"
    (closed / "bin").mkdir(parents=True)
    program = closed / "bin/program"
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o700)
    closed.chmod(0o700)
    copy = reachable_by_nobody(closed, "bin/program")
    try:
        assert copy != closed
        assert NOBODY.can_run(copy / "bin/program")
        assert copy.stat().st_uid == 0
        assert reachable_by_nobody(closed, "bin/program") == copy
    finally:
        shutil.rmtree(copy)


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
async def test_data_in_a_folder_closed_to_nobody_is_stored_elsewhere_and_found_again(server_folder):
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    first = EmbeddedPostgres(closed / "postgres", options=FAST, account=NOBODY)
    later = EmbeddedPostgres(closed / "postgres", options=FAST, account=NOBODY)
    first.start()
    elsewhere = (closed / "postgres/data").readlink().parent
    try:
        await query(first, "CREATE TABLE kept AS SELECT 42 AS value")
        later.start()
        assert not first.running
        assert await query(later, "SELECT value FROM kept") == 42
    finally:
        first.stop()
        later.stop()
        shutil.rmtree(elsewhere)


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
def test_data_that_became_closed_to_nobody_is_refused_with_advice(server_folder):
    folder = server_folder / "valkey"
    (folder / "data").mkdir(parents=True)
    folder.chmod(0o700)
    with pytest.raises(AccountError, match="choose another folder for the state"):
        EmbeddedValkey(folder, account=NOBODY).start()


def test_a_child_that_ignores_the_signal_is_killed_after_the_timeout(server_folder):
    child = Child(
        "stubborn", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"], server_folder
    )
    child.start()
    until(lambda: psutil.Process(child.pid).children(), "the trap is set")
    assert not child.stop(signal.SIGTERM, timeout_s=0.2)
    assert not child.running
