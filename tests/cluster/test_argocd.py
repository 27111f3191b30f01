"""Argo CD keeps the release as a Git repository says, and nothing else than that."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from cluster.operate import HERE, ROOT, Cluster, Images, Object, Times, merged, seconds_until

NAMESPACE = "shortlinks-argocd"
STEADY_S = 120
# With the autoscalers of the chart's defaults; that of the writer is held at two pods.
ARGO: Object = {
    "argocd": {"syncWaves": True},
    "writer": {"autoscaling": {"enabled": True, "maxReplicas": 2}},
    "redirector": {"autoscaling": {"enabled": True}},
}

pytestmark = pytest.mark.skipif(
    os.environ.get("CLUSTER_ARGOCD") != "file",
    reason="no Argo CD that reads file://: CLUSTER_ARGOCD",
)


class Repository:
    """The Git repository that Argo CD follows: the chart, the environments and one values file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copytree(ROOT / "charts" / "shortlinks", folder / "charts" / "shortlinks")
        copytree(ROOT / "argocd" / "envs", folder / "argocd" / "envs")
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.com", *arguments]
        done = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, values: Object) -> None:
        (self.folder / "values.yaml").write_text(yaml.safe_dump(values))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=values")


class Argo:
    """The release that Argo CD makes of the repository."""

    def __init__(self, cluster: Cluster, repository: Repository, values: Object) -> None:
        self.cluster = cluster
        self.repository = repository
        self.values = values
        self.links: list[Object] = []

    def state(self) -> tuple[str, str, str]:
        """Return the revision, the sync status and the health of the Application."""
        found = self.cluster.kubectl("get", "application", "links", "-n=argocd", "--output=json")
        status = json.loads(found).get("status", {})
        sync = status.get("sync", {})
        return (
            sync.get("revision", ""), sync.get("status", ""),
            status.get("health", {}).get("status", ""),
        )  # fmt: skip

    def commit(self, **changes: Any) -> None:
        self.values = merged(self.values, changes)
        self.repository.commit(self.values)

    def settled(self) -> bool:
        return self.state() == (self.repository.git("rev-parse", "HEAD"), "Synced", "Healthy")


@pytest.fixture(scope="module")
def argo(images: Images, times: Times, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Argo]:
    cluster = Cluster(NAMESPACE, images, "", times)
    cluster.create_namespace()
    repository = Repository(tmp_path_factory.mktemp("git") / "repository")
    values = merged(yaml.safe_load((HERE / "values.yaml").read_text()), images.values(images.tag))
    argo = Argo(cluster, repository, merged(values, ARGO))
    argo.commit()
    project: Object = yaml.safe_load((ROOT / "argocd" / "project.yaml").read_text())
    where = {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE}
    project["spec"]["sourceRepos"] = [f"file://{repository.folder}"]
    project["spec"]["destinations"].append(where)
    cluster.kubectl("apply", "-n=argocd", "--filename=-", feed=json.dumps(project))
    application: Object = yaml.safe_load((ROOT / "argocd" / "application.yaml").read_text())
    application["metadata"]["name"] = "links"
    spec = application["spec"]
    spec["source"]["repoURL"] = f"file://{repository.folder}"
    spec["source"]["helm"] = {"valueFiles": ["../../values.yaml"]}
    spec["destination"]["namespace"] = NAMESPACE
    cluster.kubectl("apply", "-n=argocd", "--filename=-", feed=json.dumps(application))
    yield argo
    cluster.kubectl("delete", "application", "links", "-n=argocd")
    cluster.kubectl("delete", "appproject", "shortlinks", "-n=argocd")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_the_application_becomes_synced_and_healthy_and_links_work(argo: Argo) -> None:
    took = seconds_until(argo.settled, "synced and healthy", 240)
    argo.cluster.times.note("Argo CD: from the Application to Synced and Healthy", took)
    argo.cluster.create_key()
    argo.links = argo.cluster.make_links(5)
    assert all(line.startswith("302 ") for line in argo.cluster.follow(argo.links))


def test_a_commit_of_images_and_values_rolls_out_without_a_failed_request(argo: Argo) -> None:
    tag = argo.cluster.images.following
    with argo.cluster.load(argo.links) as load:
        argo.commit(
            settings={"cache_tombstone_ttl_s": 7200},
            writer={"image": {"tag": tag}},
            redirector={"image": {"tag": tag}},
        )
        took = seconds_until(argo.settled, "rolled out", 180)
    load.check()
    for component in ("writer", "redirector", "relay", "worker"):
        found = argo.cluster.get("configmap", f"links-shortlinks-{component}")["data"]
        assert found["SHORTLINKS_CACHE_TOMBSTONE_TTL_S"] == "7200"
        assert all(
            pod["spec"]["containers"][0]["image"].endswith(f":{tag}")
            for pod in argo.cluster.pods(component)
        )
    argo.cluster.times.note(
        "Argo CD: from a commit of images, schema and values to the end of the rollout", took, load
    )


def test_drift_is_healed_and_what_left_git_is_pruned(argo: Argo) -> None:
    start = time.monotonic()
    argo.cluster.kubectl("scale", "deployment", "links-shortlinks-relay", "--replicas=0")
    patch = json.dumps({"data": {"SHORTLINKS_DEFAULT_DOMAIN": "elsewhere.example"}})
    argo.cluster.kubectl("patch", "configmap", "links-shortlinks-writer", "--patch", patch)

    def healed() -> bool:
        relay = argo.cluster.get("deployment", "links-shortlinks-relay")
        found = argo.cluster.get("configmap", "links-shortlinks-writer")["data"]
        return (
            relay["spec"]["replicas"] == 2
            and relay["status"].get("readyReplicas") == 2
            and found["SHORTLINKS_DEFAULT_DOMAIN"] == "go.example"
        )

    seconds_until(healed, "drift is healed", 90)
    argo.cluster.times.note(
        "Argo CD: relays scaled to 0 and a setting patched by hand, until both are reverted",
        time.monotonic() - start,
    )
    extra: Object = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"a": "b"},
    }  # fmt: skip
    argo.commit(extraObjects=[extra])
    seconds_until(lambda: has_extra(argo.cluster), "the new object is there", 120)
    argo.commit(extraObjects=[])
    seconds_until(lambda: not has_extra(argo.cluster), "it is pruned", 120)


def has_extra(cluster: Cluster) -> bool:
    return bool(cluster.kubectl("get", "configmap", "extra", "--ignore-not-found"))


def test_it_stays_synced_and_healthy_while_the_autoscaler_works(argo: Argo) -> None:
    seconds_until(argo.settled, "synced and healthy", 180)
    before = argo.cluster.get("hpa", "links-shortlinks-redirector")["status"]["desiredReplicas"]
    end = time.monotonic() + STEADY_S
    with argo.cluster.load(argo.links, threads=6, pause_s=0.002) as load:
        while time.monotonic() < end:
            _, sync, health = argo.state()
            assert sync == "Synced"
            # New pods of the autoscaler are in progress until they are ready.
            assert health in {"Healthy", "Progressing"}
            time.sleep(1)
        after = argo.cluster.get("hpa", "links-shortlinks-redirector")["status"]["desiredReplicas"]
    load.check()
    assert after > before
    seconds_until(argo.settled, "synced and healthy", 60)


def test_a_broken_commit_does_not_take_the_service_down(argo: Argo) -> None:
    good = argo.values["redirector"]["image"]["tag"]
    with argo.cluster.load(argo.links) as load:
        argo.commit(redirector={"image": {"tag": "there-is-none"}})
        seconds_until(
            lambda: argo.state()[2] != "Healthy" or broken(argo.cluster), "Argo CD is at it", 120
        )
        seconds_until(lambda: broken(argo.cluster), "the new pod cannot start", 120)
        start = time.monotonic()
        while time.monotonic() < start + 10:
            assert len(argo.cluster.ready("redirector")) >= 2
        argo.commit(redirector={"image": {"tag": good}})
        took = seconds_until(argo.settled, "mended", 300)
    load.check()
    argo.cluster.times.note(
        "Argo CD: from a commit that repairs a broken one to Healthy", took, load
    )


def broken(cluster: Cluster) -> bool:
    return any(
        waiting["reason"] in {"ErrImagePull", "ImagePullBackOff"}
        for pod in cluster.pods("redirector")
        for container in pod["status"].get("containerStatuses", ())
        if (waiting := container["state"].get("waiting"))
    )


def test_each_environment_in_git_becomes_an_application_that_renders(argo: Argo) -> None:
    made: Object = yaml.safe_load((ROOT / "argocd" / "applicationset.yaml").read_text())
    url = f"file://{argo.repository.folder}"
    made["spec"]["generators"][0]["git"]["repoURL"] = url
    spec = made["spec"]["template"]["spec"]
    spec["source"]["repoURL"] = url
    # Compared with the cluster, not deployed to it.
    del spec["syncPolicy"]["automated"]
    argo.cluster.kubectl("apply", "-n=argocd", "--filename=-", feed=json.dumps(made))

    def compared() -> bool:
        found = argo.cluster.get("applications", "-n=argocd")["items"]
        states = {
            each["metadata"]["name"]: each.get("status", {})
            for each in found
            if each["metadata"]["name"] != "links"
        }
        complaints = [state["conditions"] for state in states.values() if state.get("conditions")]
        assert not complaints, complaints
        return {
            name: state.get("sync", {}).get("status") for name, state in states.items()
        } == dict.fromkeys(("shortlinks-dev", "shortlinks-staging", "shortlinks-prod"), "OutOfSync")

    try:
        seconds_until(compared, "the environments are compared", 120)
    finally:
        argo.cluster.kubectl("delete", "applicationset", "shortlinks", "-n=argocd")
        names = ("shortlinks-dev", "shortlinks-staging", "shortlinks-prod")
        argo.cluster.kubectl("delete", "application", *names, "-n=argocd", "--ignore-not-found")
