"""KEDA scales the worker by the lag of the click streams, from zero and back.

Needs KEDA in the cluster; without its ScaledObject these tests are skipped.
"""

import subprocess

import pytest
from cluster.operate import Cluster, Object, seconds_until
from harness.waiting import NotInTime

IDLE_S = 10
VALUES: Object = {
    "worker": {
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 2,
            "keda": {"enabled": True, "pollingInterval": 2, "cooldownPeriod": IDLE_S},
        }
    },
    **{
        part: {"replicaCount": 1, "autoscaling": {"enabled": False}}
        for part in ("writer", "redirector", "relay")
    },
}


@pytest.fixture(autouse=True)
def keda_is_there() -> None:
    crd = ("kubectl", "get", "crd", "scaledobjects.keda.sh")
    if subprocess.run(crd, capture_output=True, check=False).returncode:
        pytest.skip("no KEDA in the cluster")


def workers(cluster: Cluster) -> int:
    return len(cluster.pods("worker"))


def clicks(cluster: Cluster) -> int:
    return int(cluster.sql("SELECT coalesce(sum(clicks), 0) FROM link_totals"))


def wait_counted(cluster: Cluster, requests: int) -> None:
    seconds_until(lambda: clicks(cluster) == requests, "all clicks are counted", 60)


def test_keda_starts_a_worker_when_clicks_wait_and_none_is_left_after_they_are_counted(
    keda_cluster: Cluster,
) -> None:
    cluster = keda_cluster
    cluster.install(values=VALUES)
    cluster.create_key()
    links = cluster.make_links(5)
    seconds_until(lambda: workers(cluster) == 0, "no worker runs while no click waits", 120)
    requests = 0
    for _ in range(2):  # the second worker starts in the middle of the streams
        with cluster.load(links, threads=2, pause_s=0.02) as load:
            took = seconds_until(lambda: cluster.ready("worker"), "a worker is ready", 120)
            # Its lag stays known while it counts, or KEDA would end it in spite of the clicks.
            until_s = IDLE_S + 20
            with pytest.raises(NotInTime):
                seconds_until(lambda: workers(cluster) == 0, "no worker is left", until_s)
        load.check(100)
        requests += load.requests
        wait_counted(cluster, requests)
        cluster.times.note("KEDA: first click after a pause, until a worker is ready", took, load)
        seconds_until(lambda: workers(cluster) == 0, "no worker is left", 120)
