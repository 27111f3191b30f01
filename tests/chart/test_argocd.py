"""What Argo CD is given: valid, bounded, and pointing at files that are there."""

from typing import Any

import pytest
import yaml
from chart import validation
from chart.rendering import CASES, NEWEST, ROOT, manifests, template

ARGOCD = ROOT / "argocd"
ENVIRONMENTS = sorted(path.parent for path in ARGOCD.glob("envs/*/env.yaml"))


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ARGOCD / name).read_text())
    return loaded


@pytest.mark.parametrize("name", ["project.yaml", "application.yaml", "applicationset.yaml"])
def test_argocd_would_take_it(name: str) -> None:
    assert validation.faults([load(name)], NEWEST) == []


def test_the_project_is_explicit() -> None:
    spec = load("project.yaml")["spec"]
    assert "*" not in str(spec)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.name)
def test_the_project_allows_what_an_environment_renders(newest_helm: str, environment: Any) -> None:
    spec = load("project.yaml")["spec"]
    allowed = {(each["group"], each["kind"]) for each in spec["namespaceResourceWhitelist"]}
    values = (environment / "values.yaml", environment / "images.yaml")
    for each in manifests(template(newest_helm, *values)):
        if each["metadata"].get("annotations", {}).get("helm.sh/hook") == "test":
            continue  # Argo CD leaves it out
        group = each["apiVersion"].rpartition("/")[0]
        assert (group, each["kind"]) in allowed
    where = yaml.safe_load((environment / "env.yaml").read_text())
    assert where["environment"] == environment.name
    assert {"server": where["server"], "namespace": where["namespace"]} in spec["destinations"]


def test_every_environment_has_the_files_that_the_applicationset_names() -> None:
    source = load("applicationset.yaml")["spec"]["template"]["spec"]["source"]
    assert [path.name for path in ENVIRONMENTS] == ["dev", "prod", "staging"]
    for environment in ENVIRONMENTS:
        for pattern in source["helm"]["valueFiles"]:
            name = pattern.replace("{{ .environment }}", environment.name)
            assert (ROOT / source["path"] / name).resolve().is_file(), name


def test_production_makes_no_credential_and_names_only_secrets(newest_helm: str) -> None:
    folder = ARGOCD / "envs" / "prod"
    found = manifests(template(newest_helm, folder / "values.yaml", folder / "images.yaml"))
    kinds = {each["kind"] for each in found}
    assert not kinds & {"Role", "RoleBinding", "Secret", "StatefulSet"}


def test_waves_put_credentials_before_stores_before_migration_before_services(
    newest_helm: str,
) -> None:
    case = next(case for case in CASES if case.stem == "everything")
    found = manifests(template(newest_helm, case))
    waves: dict[str, set[int]] = {}
    for each in found:
        annotations = each["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations or "labels" not in each["metadata"]:
            continue  # left out by Argo CD, or none of the chart's own
        wave = int(annotations["argocd.argoproj.io/sync-wave"])
        part = each["metadata"]["labels"].get("app.kubernetes.io/component", "")
        key = f"{each['kind']} {part}" if each["kind"] in {"Job", "StatefulSet"} else each["kind"]
        if each["metadata"]["name"].endswith("-dashboard"):
            key = "dashboard"
        waves.setdefault(key, set()).add(wave)
    assert (
        max(waves["Job credentials"])
        < min(waves["StatefulSet postgresql"])
        < min(waves["Job migrate"])
        < min(waves["Deployment"])
    )
    # In no wave after the services: Argo CD would wait there for pods that cannot start, and take up
    # no other commit meanwhile.
    assert max(max(each) for each in waves.values()) == min(waves["Deployment"])
    # What a pod reads or runs as is there before it.
    for before in ("ServiceAccount", "Role", "RoleBinding", "ConfigMap", "NetworkPolicy"):
        assert max(waves[before]) <= min(waves["Job credentials"])
