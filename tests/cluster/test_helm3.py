"""The same chart by Helm 3."""

import time

from cluster.operate import Cluster


def test_helm_3_installs_it_and_its_test_passes(helm3_cluster: Cluster) -> None:
    start = time.monotonic()
    helm3_cluster.install()
    helm3_cluster.times.note(
        "`helm install --wait` from nothing (Helm 3)", time.monotonic() - start
    )
    helm3_cluster.helm("test", "links", "--timeout=2m")
    helm3_cluster.helm("uninstall", "links", "--wait", "--timeout=3m")
