"""A real API server takes every object, and a restricted namespace every pod.

Needs a cluster in `KUBECONFIG` whose namespace `shortlinks-dry-run` these tests may make and
delete, and kubectl; nothing is created but the namespace. Kinds that the cluster does not have
(custom resources without their operator) are left to the kept schemas.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chart.rendering import CASES, Manifest, manifests, pods, template

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: set KUBECONFIG"),
    pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on the PATH"),
    # One namespace, made once.
    pytest.mark.xdist_group("cluster"),
]

NAMESPACE = "shortlinks-dry-run"


def kubectl(*arguments: str, given: object = None) -> str:
    """Run kubectl; a fault or a warning of the server fails the test with what it says."""
    done = subprocess.run(
        ["kubectl", *arguments],
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def kinds() -> Iterator[set[str]]:
    """The kinds that the cluster has; the namespace is there meanwhile."""
    listed = kubectl("api-resources", "--no-headers")
    kubectl(
        "apply",
        "-f",
        "-",
        given={
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
    )
    kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield {f"{line.split()[-3]}/{line.split()[-1]}" for line in listed.splitlines()}
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def render(helm: str, case: Path) -> list[Manifest]:
    return [
        {**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}}
        for each in manifests(template(helm, case))
    ]


def dry_run(items: list[Manifest]) -> None:
    given = {"apiVersion": "v1", "kind": "List", "items": items}
    command = ("apply", "--dry-run=server", "--server-side", "--validate=strict", "-f", "-")
    kubectl(*command, given=given)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_server_takes_every_object(helm: str, case: Path, kinds: set[str]) -> None:
    found = render(helm, case)
    # A pod by itself needs its ServiceAccount to be there: the next test takes it.
    found = [each for each in found if each["kind"] != "Pod"]
    known = [each for each in found if f"{each['apiVersion']}/{each['kind']}" in kinds]
    assert len(known) > len(found) / 2
    dry_run(known)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("kinds")
def test_a_restricted_namespace_takes_every_pod(newest_helm: str, case: Path) -> None:
    made = []
    for number, (_, pod) in enumerate(pods(render(newest_helm, case))):
        # What other objects would have to exist for is left out.
        spec = {**pod["spec"], "serviceAccountName": "default"}
        spec.pop("priorityClassName", None)
        # What the StatefulSet would add.
        have = {volume["name"] for volume in spec.get("volumes", [])}
        mounted = {
            mount["name"]
            for container in [*spec.get("initContainers", []), *spec["containers"]]
            for mount in container.get("volumeMounts", [])
        }
        claims = [{"name": name, "emptyDir": {}} for name in sorted(mounted - have)]
        spec["volumes"] = [*spec.get("volumes", []), *claims]
        made.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number}", "namespace": NAMESPACE},
                "spec": spec,
            }
        )
    dry_run(made)
