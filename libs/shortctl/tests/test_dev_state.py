"""The state folder: one run at a time, secrets with mode 0600, dev.json only while ready."""

import json
import subprocess
import sys

import pytest

from shortctl.dev.state import StateFolder, StateInUseError
from shortctl.running_stack import RunningStack

STACK = RunningStack(
    writer_url="http://127.0.0.1:1",
    redirector_url="http://127.0.0.1:2",
    writer_admin_url="http://127.0.0.1:3",
    redirector_admin_url="http://127.0.0.1:4",
    relay_admin_url="http://127.0.0.1:5",
    worker_admin_url="http://127.0.0.1:6",
    postgres_url="postgresql://127.0.0.1:7/db",
    redis_url="redis://127.0.0.1:8/0",
    api_key="key",
    pids={"writer": 9},
)
HOLD = """
import sys
from pathlib import Path
from shortctl.dev.state import StateFolder
with StateFolder(Path(sys.argv[1])).lock(timeout_s=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_the_pid_of_the_first(tmp_path, holder):
    with (
        pytest.raises(StateInUseError, match=f"pid {holder.pid}"),
        StateFolder(tmp_path / "state").lock(timeout_s=0),
    ):
        pass


def test_a_killed_run_releases_its_lock_and_the_next_run_removes_its_dev_json(tmp_path, holder):
    folder = StateFolder(tmp_path / "state")
    folder.publish(STACK)
    holder.kill()
    with folder.lock(timeout_s=5):
        assert not (folder.path / "dev.json").exists()


def test_dev_json_has_mode_0600_and_is_removed_at_the_end(tmp_path):
    folder = StateFolder(tmp_path / "state")
    with folder.lock(timeout_s=0):
        folder.publish(STACK)
        path = folder.path / "dev.json"
        assert path.stat().st_mode & 0o777 == 0o600
        content = json.loads(path.read_text())
        assert content["writer_url"] == STACK.writer_url
        assert content["pids"] == STACK.pids
    assert not path.exists()


def test_secrets_are_created_once_with_mode_0600(tmp_path):
    folder = StateFolder(tmp_path / "state")
    with folder.lock(timeout_s=0):
        first = folder.code_secret().read_text()
        assert folder.code_secret().read_text() == first
        assert len(first) >= 32
        assert folder.api_key() is None
        folder.save_api_key("a-key")
        assert folder.api_key() == "a-key"
        for name in ("code_secret", "api_key"):
            assert (folder.path / name).stat().st_mode & 0o777 == 0o600
