"""The chart on a real cluster; without one these tests are skipped, and say what they need.

KUBECONFIG           of a cluster that may be filled and broken: kind, k3d, a test cluster
CLUSTER_IMAGES       PREFIX,TAG,NEXT: images <PREFIX>writer:<TAG> and <PREFIX>redirector:<TAG> that
                     the cluster can have, and the tag that upgrades go to (see next/Dockerfile), as
                     in docker.io/library/shortlinks-,one,two
HELM4, HELM3         else helm4, helm3 or helm on the PATH
CLUSTER_ARGOCD=file  Argo CD is there, and reads Git repositories of this machine (file://)
CLUSTER_WHOLE=1      a test that is skipped is a failure: CI says so of itself
CLUSTER_TIMES=write  put the measured times into docs/operations/disaster-drills.md
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from chart import rendering
from cluster.operate import ROOT, Cluster, Images, Times

measured = pytest.StashKey[Times]()
IMAGES = os.environ.get("CLUSTER_IMAGES", "")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in ("KUBECONFIG", "CLUSTER_IMAGES") if not os.environ.get(name)]
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "cluster"):
            item.add_marker(pytest.mark.cluster)
            # Two namespaces side by side: the tests of each release follow one another.
            group = "release" if item.path.stem == "test_release" else "others"
            item.add_marker(pytest.mark.xdist_group(f"cluster-{group}"))
            item.add_marker(pytest.mark.timeout(600))
            if missing:
                reason = f"no cluster: set {' and '.join(missing)} (see tests/cluster/conftest.py)"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[measured] = Times()


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["cluster_times"] = session.config.stash[measured].rows
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CLUSTER_WHOLE") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("CLUSTER_WHOLE is set, but tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    rows = getattr(node, "workeroutput", {}).get("cluster_times", ())
    node.config.stash[measured].rows.extend(tuple(row) for row in rows)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    times = config.stash[measured]
    if times.rows:
        terminalreporter.write_line(times.table())
        if os.environ.get("CLUSTER_TIMES") == "write" and exitstatus == 0:
            times.write(ROOT / "docs" / "operations" / "disaster-drills.md")


@pytest.fixture(scope="session")
def times(request: pytest.FixtureRequest) -> Times:
    return request.config.stash[measured]


@pytest.fixture(scope="session")
def images() -> Images:
    return Images(*IMAGES.split(","))


def _cluster(namespace: str, major: int, images: Images, times: Times) -> Iterator[Cluster]:
    helm = rendering.helms().get(major)
    if helm is None:
        pytest.skip(f"no Helm {major}: set HELM{major}")
    cluster = Cluster(namespace, images, helm, times)
    cluster.create_namespace()
    yield cluster
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def cluster(images: Images, times: Times) -> Iterator[Cluster]:
    """A namespace with the release of the tests, which go through it in order."""
    yield from _cluster("shortlinks-test", 4, images, times)


@pytest.fixture(scope="session")
def keda_cluster(images: Images, times: Times) -> Iterator[Cluster]:
    yield from _cluster("shortlinks-keda", 4, images, times)


@pytest.fixture(scope="session")
def helm3_cluster(images: Images, times: Times) -> Iterator[Cluster]:
    yield from _cluster("shortlinks-helm3", 3, images, times)
