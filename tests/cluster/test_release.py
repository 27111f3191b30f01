"""The life of one release, from nothing to its reinstallation; each test goes on from the last."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster.operate import ROOT, Cluster, Object, is_ready, seconds_until

KNOWN: list[Object] = []
"""Links that were acknowledged: none may ever be lost."""

SERVICES = ("writer", "redirector", "relay", "worker")

(AFTER_A_RESTORE,) = re.findall(
    "```sql\n(.*?)```",
    (ROOT / "docs" / "operations" / "backup-and-restore.md").read_text(),
    re.DOTALL,
)
"""What the page tells to run after a restore."""


@pytest.fixture(autouse=True)
def after_the_first(request: pytest.FixtureRequest) -> None:
    if not KNOWN and "nothing" not in request.node.name:
        pytest.skip("there is no release: the first test failed or was left out")


def all_known(cluster: Cluster) -> bool:
    return cluster.right(KNOWN)


def uids(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["uid"] for component in SERVICES for pod in cluster.pods(component)}


def image_of(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def runs_only(cluster: Cluster, component: str, tag: str) -> bool:
    return all(image_of(pod).endswith(f":{tag}") for pod in cluster.pods(component))


def creates_again(cluster: Cluster) -> bool:
    try:
        KNOWN.extend(cluster.make_links(1))
    except AssertionError:  # the writer says 503, or cannot be reached
        return False
    return True


def test_one_install_from_nothing_leads_to_a_followed_link(cluster: Cluster) -> None:
    start = time.monotonic()
    cluster.install()
    ready = time.monotonic() - start
    cluster.create_key()
    KNOWN.extend(cluster.make_links(10))
    assert all_known(cluster)
    cluster.times.note("`helm install --wait` from nothing (Helm 4)", ready)
    cluster.times.note("… to the first followed link", time.monotonic() - start)


def test_helm_test_passes(cluster: Cluster) -> None:
    start = time.monotonic()
    cluster.helm("test", "links", "--timeout=2m")
    cluster.times.note("`helm test`", time.monotonic() - start)


def test_a_restricted_namespace_took_every_pod(cluster: Cluster) -> None:
    said = cluster.kubectl("get", "events", "--output=jsonpath={.items[*].message}")
    assert "violates PodSecurity" not in said
    labels = cluster.get("namespace", cluster.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for component in (*SERVICES, "postgresql", "valkey"):
        assert cluster.ready(component)


def test_a_dynamic_setting_takes_effect_without_a_restart(cluster: Cluster) -> None:
    before = uids(cluster)
    start = time.monotonic()
    cluster.install(values={"dynamic": {"default_redirect_status": 307}})

    def in_force() -> bool:
        made = cluster.make_links(4)
        KNOWN.extend(made)
        return all(link["redirect_status"] == 307 for link in made)

    seconds_until(in_force, "new links have the new default status", 150)
    cluster.times.note(
        "change of a dynamic setting, until it applies everywhere", time.monotonic() - start
    )
    assert uids(cluster) == before
    assert all_known(cluster)


def test_an_upgrade_with_a_migration_drops_no_request(cluster: Cluster) -> None:
    """The old version serves on beside the new one, on a schema that it does not know."""
    before = int(cluster.sql("SELECT revision FROM schema_version"))
    old = f":{cluster.images.tag}"
    values: Object = {
        "settings": {"cache_tombstone_ttl_s": 7200}, "dynamic": {"default_redirect_status": 308},
    }  # fmt: skip
    start = time.monotonic()
    with cluster.load(KNOWN, creating=True) as load, ThreadPoolExecutor(1) as operator:
        upgrade = operator.submit(cluster.install, cluster.images.following, values)
        seconds_until(
            lambda: cluster.sql("SELECT revision FROM schema_version") == str(before + 1),
            "the schema is migrated",
        )
        for component in SERVICES:
            assert any(is_ready(pod) for pod in cluster.pods(component) if old in image_of(pod))
        upgrade.result()
        took = time.monotonic() - start
        seconds_until(lambda: len(all_pods(cluster, "redirector")) == 2, "the last old pod is gone")
    load.check(1000)
    for component in SERVICES:
        assert runs_only(cluster, component, cluster.images.following)
    cluster.times.note("upgrade: new images, schema and values", took, load)


def all_pods(cluster: Cluster, component: str) -> list[Object]:
    found: list[Object] = cluster.get("pods", f"-l=app.kubernetes.io/component={component}")[
        "items"
    ]
    return found


def test_the_visitors_see_an_outage(cluster: Cluster) -> None:
    """Else that nothing failed in the other tests would mean nothing."""
    with cluster.load(KNOWN) as load:
        for pod in cluster.ready("redirector"):
            cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        seconds_until(lambda: len(cluster.ready("redirector")) == 2, "redirectors are back")
    assert load.failed > 0


def test_deleted_pods_take_no_request_with_them(cluster: Cluster) -> None:
    with cluster.load(KNOWN, creating=True) as load:
        start = time.monotonic()
        whole = {each: len(cluster.ready(each)) for each in SERVICES}
        for component in SERVICES:
            cluster.kubectl("delete", "pod", cluster.ready(component)[0])
        seconds_until(
            lambda: {each: len(cluster.ready(each)) for each in SERVICES} == whole,
            "every part is whole again",
        )
        took = time.monotonic() - start
        KNOWN.extend(cluster.make_links(2))
    load.check()
    cluster.times.note("a pod of each service deleted, until all pods are ready again", took, load)


def test_a_drain_may_take_one_pod_of_a_service_at_a_time(cluster: Cluster) -> None:
    """`kubectl drain` evicts by this API; here by hand, as a cluster of one node would be empty."""

    def evict(pod: str) -> None:
        path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        cluster.kubectl("create", "--raw", path, "--filename", "-", feed=json.dumps(body))

    with cluster.load(KNOWN, creating=True) as load:
        start = time.monotonic()
        for component in ("redirector", "writer"):
            first, second = cluster.ready(component)
            evict(first)
            with pytest.raises(AssertionError, match="disruption budget"):
                evict(second)
        for component in ("redirector", "writer"):
            seconds_until(
                lambda c=component: len(cluster.ready(c)) == 2, f"{component} is whole again"
            )
        took = time.monotonic() - start
    load.check()
    cluster.times.note(
        "a pod of redirector and writer evicted, until all pods are ready again", took, load
    )


@pytest.mark.parametrize("component", ["postgresql", "valkey"])
def test_known_links_go_on_while_a_store_is_killed(cluster: Cluster, component: str) -> None:
    with cluster.load(KNOWN[:10]) as load:
        pod = cluster.ready(component)[0]
        start = time.monotonic()
        cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        seconds_until(
            lambda: cluster.ready(component) != [] and creates_again(cluster),
            f"{component} is back",
        )
        took = time.monotonic() - start
    load.check()
    seconds_until(lambda: all_known(cluster), "every link is right", 30)
    cluster.times.note(f"{component}'s pod killed, until links are created again", took, load)


def test_every_click_is_counted_once_while_workers_are_deleted_killed_and_scaled(
    cluster: Cluster,
) -> None:
    links = cluster.make_links(20)
    KNOWN.extend(links)
    redirectors = cluster.ready("redirector")
    dropped = clicks_dropped(cluster, redirectors)
    start = time.monotonic()
    with cluster.load(links, threads=8, pause_s=0.005) as load:
        scale_workers(cluster, 3)
        killed, deleted, _ = cluster.ready("worker")
        cluster.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
        cluster.kubectl("delete", "pod", deleted)
        seconds_until(lambda: len(cluster.ready("worker")) == 3, "three workers are ready again")
        scale_workers(cluster, 1)
    took = time.monotonic() - start
    load.check(1000)
    # The process that counts what it drops must be the same all the time.
    assert cluster.ready("redirector") == redirectors
    expected = load.requests - (clicks_dropped(cluster, redirectors) - dropped)
    seconds_until(lambda: clicks_of(cluster, links) >= expected, "all clicks are counted", 60)
    time.sleep(3)  # a click that is counted twice would be counted late
    assert clicks_of(cluster, links) == expected
    cluster.times.note(
        "workers scaled from 1 to 3 and back, one killed, one deleted; all clicks counted once",
        took,
        load,
    )


def scale_workers(cluster: Cluster, number: int) -> None:
    cluster.kubectl("scale", "deployment", "links-shortlinks-worker", f"--replicas={number}")
    seconds_until(
        lambda: len(cluster.ready("worker")) == number == len(all_pods(cluster, "worker")),
        f"{number} workers are ready",
    )


def clicks_dropped(cluster: Cluster, redirectors: list[str]) -> int:
    dropped = 0
    for pod in redirectors:
        path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}:9001/proxy/metrics"
        page = cluster.kubectl("get", "--raw", path)
        assert "shortlinks_clicks_captured_total" in page
        for value in re.findall(r"^shortlinks_clicks_dropped_total\S* (\S+)$", page, re.MULTILINE):
            dropped += int(float(value))
    return dropped


def clicks_of(cluster: Cluster, links: list[Object]) -> int:
    codes = ", ".join(f"'{link['code']}'" for link in links)
    return int(
        cluster.sql(
            "SELECT coalesce(sum(clicks), 0) FROM link_totals JOIN links ON id = link_id "
            f"WHERE code IN ({codes})"
        )
    )


def test_redirectors_scale_out_and_in_by_themselves_and_the_writer_does_not(
    cluster: Cluster,
) -> None:
    behaviour = {"scaleDown": {"stabilizationWindowSeconds": 10, "policies": [
        {"type": "Pods", "value": 2, "periodSeconds": 15}]}}  # fmt: skip
    scaling: dict[str, Any] = {
        "enabled": True, "minReplicas": 2, "maxReplicas": 3, "targetCPUUtilizationPercentage": 60,
        "behavior": behaviour,
    }  # fmt: skip
    # What idle pods and the light load need is far below the target, the heavy load far above.
    resources = {"requests": {"cpu": "80m", "memory": "128Mi"}}
    redirector: Object = {"autoscaling": scaling, "resources": resources}
    cluster.install(cluster.images.following, {"redirector": redirector})
    writers = {pod["metadata"]["uid"] for pod in cluster.pods("writer")}
    with cluster.load(KNOWN[:10], threads=1, pause_s=0.05) as light:
        with cluster.load(KNOWN[:10], threads=8, pause_s=0.0005) as heavy:
            out = seconds_until(
                lambda: len(cluster.ready("redirector")) > 2, "redirectors scale out", 180
            )
        inward = seconds_until(
            lambda: len(all_pods(cluster, "redirector")) == 2, "redirectors scale in", 240
        )
    heavy.check()
    light.check()
    assert {pod["metadata"]["uid"] for pod in cluster.pods("writer")} == writers
    cluster.times.note("higher load, until another redirector is ready", out, heavy)
    cluster.times.note(
        "load stopped, until two redirectors are left and the others have drained", inward, light
    )


def test_a_rollback_loses_no_link_and_no_request(cluster: Cluster) -> None:
    with cluster.load(KNOWN) as load:
        start = time.monotonic()
        cluster.helm("rollback", "links", "1", "--wait", "--timeout=5m")
        took = time.monotonic() - start
    load.check()
    assert runs_only(cluster, "redirector", cluster.images.tag)
    assert all_known(cluster)
    # The older release's migration found a schema that is ahead of it.
    jobs = cluster.get("jobs", "--selector=app.kubernetes.io/component=migrate")["items"]
    assert [job["status"].get("succeeded") for job in jobs] == [1]
    cluster.times.note(
        "`helm rollback --wait` to the first revision, before the migration", took, load
    )


def test_a_backup_brings_everything_back_after_everything_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The commands of docs/operations/backup-and-restore.md: dump, destroy, restore, rebuild the cache."""
    pod = ("exec", "-i", "sts/links-shortlinks-postgresql", "-c=postgresql", "--")
    backup = tmp_path / "links.sql"
    backup.write_text(cluster.kubectl(*pod, "pg_dump", "--username=postgres", "shortlinks"))
    secret = cluster.get("secret", "links-shortlinks-credentials")
    late = cluster.make_links(2)
    assert cluster.right(late)

    cluster.helm("uninstall", "links", "--wait", "--timeout=3m")
    cluster.kubectl("delete", "pvc", "data-links-shortlinks-postgresql-0")
    cluster.kubectl("delete", "secret", "links-shortlinks-credentials")

    start = time.monotonic()
    cluster.apply({**secret, "metadata": {"name": "links-shortlinks-credentials"}})
    off = {"enabled": False}
    cluster.install(values={**dict.fromkeys(SERVICES, off), "migrations": off})
    psql = ("psql", "--username=postgres", "--quiet", "--set=ON_ERROR_STOP=1")
    empty = ("DROP DATABASE shortlinks", "CREATE DATABASE shortlinks OWNER shortlinks")
    cluster.kubectl(*pod, *psql, *(f"--command={each}" for each in empty))
    cluster.kubectl(*pod, *psql, "--single-transaction", "shortlinks", feed=backup.read_text())
    cluster.sql(AFTER_A_RESTORE)
    cluster.install()
    with (
        cluster.forward("sts/links-shortlinks-postgresql", 5432) as postgres,
        cluster.forward("sts/links-shortlinks-valkey", 6379) as valkey,
    ):
        passwords = cluster.secret("links-shortlinks-credentials")
        where = {
            "SHORTLINKS_POSTGRES_URL": f"postgresql://shortlinks@127.0.0.1:{postgres}/shortlinks",
            "SHORTLINKS_POSTGRES_PASSWORD": passwords["postgresql-password"],
            "SHORTLINKS_REDIS_URL": f"redis://127.0.0.1:{valkey}/0",
            "SHORTLINKS_REDIS_PASSWORD": passwords["valkey-password"],
            "SHORTLINKS_REDIS_TIMEOUT_MS": "2000",
        }
        assert f"{count_of(cluster)} links read" in shortctl(where, "cache", "rebuild")
        assert " 0 differ" in shortctl(where, "cache", "verify", "--all")
    took = time.monotonic() - start
    assert all_known(cluster)
    assert all(line.startswith("404") for line in cluster.follow(late))
    # No code of a link that was lost is given to another.
    again = cluster.make_links(200)
    assert not {link["code"] for link in again} & {link["code"] for link in late}
    KNOWN.extend(again[:5])
    assert all_known(cluster)
    cluster.times.note("everything lost: restore from a dump and rebuild of the cache", took)


def count_of(cluster: Cluster) -> int:
    return int(cluster.sql("SELECT count(*) FROM links"))


def shortctl(where: dict[str, str], *arguments: str) -> str:
    program = Path(sys.executable).with_name("shortctl")
    done = subprocess.run(
        [program, *arguments], env=os.environ | where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_uninstalling_and_installing_again_on_the_same_volume_loses_no_link(
    cluster: Cluster,
) -> None:
    start = time.monotonic()
    cluster.helm("uninstall", "links", "--wait", "--timeout=3m")
    seconds_until(lambda: not all_pods(cluster, "postgresql"), "the pods are gone")
    gone = time.monotonic() - start
    cluster.install()
    assert all_known(cluster)
    KNOWN.extend(cluster.make_links(1))
    assert all_known(cluster)
    cluster.times.note("`helm uninstall --wait`", gone)
    cluster.times.note(
        "installed again on the same volume, until all links are right",
        time.monotonic() - start - gone,
    )
