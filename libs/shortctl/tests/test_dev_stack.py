"""`shortctl dev`: one command starts a working stack, and stops all of its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from harness.waiting import until

SHORTCTL = Path(sys.executable).parent / "shortctl"
READY_S = 60
SERVICES = {"writer", "redirector", "relay", "worker"}
PARTS = SERVICES | {"postgres", "redis"}


class Run:
    """One `shortctl dev`, with its output in a file."""

    def __init__(self, state, port_base, *options):
        self.state = state
        self.output = state.with_suffix(".out")
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [SHORTCTL, "dev", "--state", state, "--port-base", str(port_base), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def facts(self):
        def ready():
            assert self.process.poll() is None, self.output.read_text()
            return (self.state / "dev.json").exists()

        until(ready, "dev.json is there", READY_S, details=self.output.read_text)
        return json.loads((self.state / "dev.json").read_text())

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def port_base(worker_id):
    # Below the ports of outgoing connections, and different for each worker.
    return 20_000 + 100 * (int(worker_id.removeprefix("gw")) if worker_id != "master" else 90)


@pytest.fixture
def start(server_folder, port_base):
    runs = []

    def start(*options):
        runs.append(Run(server_folder / "state", port_base, *options))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.end()


def create(facts, target):
    answer = httpx.post(
        f"{facts['writer_url']}/api/v1/links",
        json={"target": target},
        headers={"Authorization": f"Bearer {facts['api_key']}"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["code"]


def follow(facts, code):
    return httpx.get(f"{facts['redirector_url']}/{code}", timeout=10).headers.get("Location")


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_link_that_one_run_created_works_in_the_next(start):
    run = start()
    facts = run.facts()
    assert (run.state / "dev.json").stat().st_mode & 0o777 == 0o600
    assert set(facts["pids"]) == PARTS
    code = create(facts, "https://example.com/kept")
    assert follow(facts, code) == "https://example.com/kept"
    assert run.end() == 0
    assert not (run.state / "dev.json").exists()
    assert all(ended(pid) for pid in facts["pids"].values())
    output = run.output.read_text()
    assert facts["api_key"] in output
    assert f"curl -s -X POST {facts['writer_url']}/api/v1/links" in output

    again = start().facts()
    assert again["api_key"] == facts["api_key"]
    assert follow(again, code) == "https://example.com/kept"


@pytest.mark.fault
def test_a_killed_run_leaves_no_process_and_the_next_run_finds_all_links(start):
    run = start()
    facts = run.facts()
    code = create(facts, "https://example.com/kept")
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    if sys.platform == "linux":
        until(lambda: all(ended(pid) for pid in facts["pids"].values()), "all parts have ended")
    # The dev.json of the killed run may still exist until the next run starts.
    (run.state / "dev.json").unlink()
    again = start().facts()
    assert follow(again, code) == "https://example.com/kept"


@pytest.mark.fault
@pytest.mark.parametrize("part", ["redirector", "worker", "postgres"])
def test_a_part_that_ends_by_itself_ends_the_run_with_an_error_that_names_it(start, part):
    run = start()
    facts = run.facts()
    os.kill(facts["pids"][part], signal.SIGKILL)
    assert run.process.wait(30) == 1
    assert f"{part} ended by itself" in run.output.read_text()
    assert all(ended(pid) for pid in facts["pids"].values())


def test_a_second_run_with_the_same_state_folder_is_refused_in_one_line(start):
    first = start()
    facts = first.facts()
    second = subprocess.run(
        [SHORTCTL, "dev", "--state", first.state], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert f"pid {first.process.pid}" in second.stderr
    assert first.process.poll() is None
    assert first.end(signal.SIGHUP) == 0
    assert all(ended(pid) for pid in facts["pids"].values())


def test_requested_ports_that_are_in_use_are_refused_in_one_line(server_folder, port_base):
    with socket.create_server(("127.0.0.1", port_base + 3)):
        run = subprocess.run(
            [SHORTCTL, "dev", "--state", server_folder / "s", "--port-base", str(port_base)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert f"{port_base + 3} is in use" in run.stderr


def test_external_servers_are_used_and_not_stopped(start, blank_database_url, redis_url):
    run = start("--postgres-url", blank_database_url, "--redis-url", redis_url)
    facts = run.facts()
    assert set(facts["pids"]) == SERVICES
    assert facts["postgres_url"] == blank_database_url
    assert follow(facts, create(facts, "https://example.com/")) == "https://example.com/"
    assert run.end(signal.SIGTERM) == 0
