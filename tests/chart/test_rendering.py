"""The chart renders the same text every time, under every Helm, and only valid objects.

`CHART_GOLDEN=write` rewrites the golden files; read the difference before you commit it.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from chart import rendering, validation
from chart.rendering import CASES, CHART, GOLDEN, NEWEST, OLDEST, manifests, template, template_anew

cases = pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
versions = pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])


@cases
def test_a_case_renders_as_it_did(helm: str, case: Path) -> None:
    text = rendering.golden(manifests(template(helm, case)))
    file = GOLDEN / case.name
    if os.environ.get("CHART_GOLDEN") == "write":
        file.write_text(text)
    assert yaml.safe_load_all(text) is not None
    assert text == file.read_text(), f"the chart renders {case.name} differently: see {__doc__}"


def test_each_golden_file_has_its_case() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == {case.name for case in CASES}


@cases
def test_a_case_renders_the_same_text_twice(helm: str, case: Path) -> None:
    assert template(helm, case) == template_anew(helm, [case])


@cases
@versions
def test_the_server_would_take_every_object(newest_helm: str, case: Path, kubernetes: str) -> None:
    found = manifests(template(newest_helm, case, kubernetes=kubernetes))
    assert found
    assert validation.faults(found, kubernetes) == []


@versions
def test_validation_is_strict(kubernetes: str) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    assert validation.faults([service], kubernetes) == []
    assert validation.faults([{**service, "spec": {"prots": []}}], kubernetes)
    assert validation.faults([{**service, "spec": {"ports": [{}]}}], kubernetes)
    assert validation.faults([{**service, "spec": {"type": 3}}], kubernetes)
    assert validation.faults([{**service, "kind": "Servise"}], kubernetes)
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {}}
    assert validation.faults([{**rule, "spec": {"groups": [{}]}}], kubernetes)


@cases
def test_no_two_objects_share_a_name(newest_helm: str, case: Path) -> None:
    found = manifests(template(newest_helm, case))
    names = [(each["kind"], rendering.name_of(each)) for each in found]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


def test_a_long_release_name_still_gives_valid_names(newest_helm: str) -> None:
    found = manifests(template(newest_helm, CASES[0], release="a" * 53))
    names = [(each["kind"], rendering.name_of(each)) for each in found]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


def test_helm_lint_assumes_the_newest_kubernetes() -> None:
    assert f"kubernetes={NEWEST}.0\n" in (rendering.ROOT / ".ci" / "lint").read_text()


def notes_of(*sets: str) -> str:
    helm = rendering.helms().get(4)
    if helm is None:
        pytest.skip("no Helm 4: only it shows the notes without a cluster")
    command = [helm, "install", "links", str(CHART), "--namespace", "sl", "--dry-run=client"]
    pairs = [word for pair in sets for word in ("--set", pair)]
    done = subprocess.run([*command, *pairs], capture_output=True, text=True, check=True)
    return done.stdout.partition("\nNOTES:\n")[2]


def test_the_notes_lead_to_where_the_parts_are_reached() -> None:
    hosts = ("writer.ingress.enabled=true,writer.ingress.hosts[0].host=api.sho.rt",)
    route = "redirector.httpRoute.enabled=true,redirector.httpRoute.hostnames={sho.rt}"
    notes = notes_of(*hosts, f"{route},redirector.httpRoute.parentRefs[0].name=web")
    assert "curl http://api.sho.rt/api/v1/links" in notes
    assert "curl -i https://sho.rt/CODE" in notes
    assert "port-forward" not in notes
    assert "links.trustedProxies is empty" in notes
    notes = notes_of(
        "edge.enabled=true,edge.apiHosts={api.sho.rt},links.trustedProxies={10.0.0.0/8}"
    )
    assert "curl http://api.sho.rt/api/v1/links" in notes
    assert "port-forward service/links-shortlinks-edge 8001:80" in notes
    assert "trustedProxies" not in notes


def test_the_notes_name_the_next_command() -> None:
    notes = notes_of()
    assert (
        "kubectl -n sl exec deployment/links-shortlinks-writer -c writer -- "
        "shortlinks-writer create-key --name first"
    ) in notes
    assert "helm -n sl test links" in notes
    assert 'links.defaultDomain is still "localhost"' in notes
