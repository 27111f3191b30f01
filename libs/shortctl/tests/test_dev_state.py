"""The state folder: one run at a time, secrets that nobody else reads, facts only while ready."""

import json
import subprocess
import sys

import pytest

from shortctl.dev.state import Facts, StateFolder, StateInUseError

FACTS = Facts(
    writer_url="http://127.0.0.1:1",
    redirector_url="http://127.0.0.1:2",
    writer_admin_url="http://127.0.0.1:3",
    redirector_admin_url="http://127.0.0.1:4",
    relay_admin_url="http://127.0.0.1:5",
    postgres_url="postgresql://127.0.0.1:6/db",
    redis_url="redis://127.0.0.1:7/0",
    api_key="key",
    pids={"writer": 8},
)
HOLD = """
import sys
from pathlib import Path
from shortctl.dev.state import StateFolder
with StateFolder(Path(sys.argv[1])).lock(wait_s=0):
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


def test_a_second_run_is_refused_and_told_the_pid_of_the_first(tmp_path, holder):
    with (
        pytest.raises(StateInUseError, match=f"pid {holder.pid}"),
        StateFolder(tmp_path / "state").lock(wait_s=0),
    ):
        pass


def test_a_killed_run_holds_nothing_and_its_facts_are_withdrawn(tmp_path, holder):
    folder = StateFolder(tmp_path / "state")
    folder.publish(FACTS)
    holder.kill()
    with folder.lock(wait_s=5):
        assert not (folder.path / "dev.json").exists()


def test_facts_are_whole_private_and_gone_at_the_end(tmp_path):
    folder = StateFolder(tmp_path / "state")
    with folder.lock(wait_s=0):
        folder.publish(FACTS)
        path = folder.path / "dev.json"
        assert path.stat().st_mode & 0o777 == 0o600
        facts = json.loads(path.read_text())
        assert facts["writer_url"] == FACTS.writer_url
        assert facts["pids"] == {"writer": 8}
    assert not path.exists()


def test_secrets_are_made_once_and_only_we_can_read_them(tmp_path):
    folder = StateFolder(tmp_path / "state")
    with folder.lock(wait_s=0):
        first = folder.code_secret().read_text()
        assert folder.code_secret().read_text() == first
        assert len(first) >= 32
        assert folder.api_key() is None
        folder.keep_api_key("a-key")
        assert folder.api_key() == "a-key"
        for name in ("code_secret", "api_key"):
            assert (folder.path / name).stat().st_mode & 0o777 == 0o600
