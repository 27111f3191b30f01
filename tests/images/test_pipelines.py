"""What the workflows and Dockerfiles promise, and what their linters say.

A linter that is not at hand is skipped, and says so; the workflow `test` runs all of them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EVERY_WORKFLOW = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def steps(path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


def test_there_are_workflows_to_look_at():
    assert {"test.yml", "chart.yml", "image.yml", "release.yml", "bump.yml"} == {
        path.name for path in WORKFLOWS
    }


@EVERY_WORKFLOW
def test_a_workflow_has_no_permission_that_a_job_does_not_name(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert all("permissions" in job for job in workflow["jobs"].values())


@EVERY_WORKFLOW
def test_every_foreign_action_is_a_commit_with_its_version_beside(path):
    for line in path.read_text().splitlines():
        if match := re.match(r"\s*(?:- )?uses: (.*)", line):
            assert re.match(r"\./|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", match[1]), line


@EVERY_WORKFLOW
def test_no_checkout_leaves_its_token_behind(path):
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@EVERY_WORKFLOW
def test_no_script_is_made_of_expressions(path):
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "docker/writer.Dockerfile", "docker/redirector.Dockerfile"],
        ["zizmor", "--offline", "--quiet", ".github/workflows"],
        ["actionlint"],
    ],
    ids=lambda command: command[0],
)
def test_the_linter_has_nothing_to_say(command):
    beside = str(Path(sys.executable).parent)
    program = shutil.which(command[0], path=beside) or shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("status", [200, 401, 500])
def test_only_a_clear_404_lets_a_version_be_published(status, registry):
    assert registry(404).returncode == 0
    assert registry(status).returncode == 1


@pytest.fixture
def registry(tmp_path):
    """Run the check against a `curl` that reports a status; the registry itself is elsewhere."""
    curl = tmp_path / "curl"

    def check(status):
        curl.write_text(f"#!/bin/sh\nprintf {status}\n")
        curl.chmod(0o755)
        return subprocess.run(
            [str(ROOT / ".github/refuse-existing"), "ghcr.io/owner/name", "1.0.0"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "REGISTRY_TOKEN": "x"},
            capture_output=True,
            check=False,
        )

    return check
