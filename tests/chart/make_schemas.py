"""Make the strict schemas that the chart's manifests are validated against, from the sources.

    python tests/chart/make_schemas.py OLDEST NEWEST GATEWAY PROMETHEUS KEDA ARGOCD

where the arguments are unpacked module sources, as `go mod download -json MODULE@VERSION` names
in `Dir`: `k8s.io/kubernetes` in the oldest and the newest supported version,
`sigs.k8s.io/gateway-api`, `github.com/prometheus-operator/prometheus-operator`,
`github.com/kedacore/keda/v2` and `github.com/argoproj/argo-cd/v3`. (CloudNativePG's kinds are
written by hand in schemas/cnpg.json, from its API reference.)

Strict means what `kubectl apply --validate=strict` means: a field that the schema does not name
is a fault. Only the kinds below are kept, so a manifest of another kind has no schema, and that
is a fault as well. Descriptions are dropped: they are most of the size.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent / "schemas"

KINDS = {
    "v1": [
        "ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount",
    ],
    "apps/v1": ["Deployment", "StatefulSet"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["Job"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding"],
}  # fmt: skip

CRDS = {
    "gateway": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    "prometheus": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "keda": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "argocd": [
        "manifests/crds/application-crd.yaml",
        "manifests/crds/applicationset-crd.yaml",
        "manifests/crds/appproject-crd.yaml",
    ],
}

KEPT = {
    "$ref", "type", "required", "enum", "items", "properties", "additionalProperties", "pattern",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "oneOf", "anyOf",
    "allOf", "not", "maxProperties", "minProperties",
}  # fmt: skip

INT_OR_STRING = {"type": ["integer", "string"]}
QUANTITY = {"type": ["number", "string"]}


def strict(node: Any) -> Any:
    """Return `node` without prose and closed against unknown fields."""
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string"):
        return INT_OR_STRING
    out: dict[str, Any] = {}
    for name, value in node.items():
        if name not in KEPT:
            continue
        if name == "properties":
            out[name] = {key: strict(each) for key, each in value.items()}
        elif isinstance(value, list):
            out[name] = [strict(each) for each in value]
        else:
            out[name] = strict(value)
    if "properties" in out and not node.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


def builtin(source: Path) -> dict[str, Any]:
    """Return the schemas of KINDS, keyed by `apiVersion/kind`, with what they refer to."""
    definitions = json.loads((source / "api/openapi-spec/swagger.json").read_text())["definitions"]
    roots: dict[str, str] = {}
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            version = "/".join(filter(None, (gvk["group"], gvk["version"])))
            if gvk["kind"] in KINDS.get(version, []):
                roots[f"{version}/{gvk['kind']}"] = name
    kept: dict[str, Any] = {}
    todo = list(roots.values())
    while todo:
        name = todo.pop()
        if name in kept:
            continue
        kept[name] = strict(definitions[name])
        if name.endswith(".resource.Quantity"):
            kept[name] = QUANTITY
        elif name.endswith(".IntOrString"):
            kept[name] = INT_OR_STRING
        todo += re.findall(r'"#/definitions/([^"]+)"', json.dumps(kept[name]))
    for key, name in roots.items():
        kept[name]["properties"].pop("status", None)
        kept[name]["required"] = ["apiVersion", "kind", "metadata"]
        kept[name]["properties"]["apiVersion"] = {"enum": [key.rpartition("/")[0]]}
    return {"roots": dict(sorted(roots.items())), "definitions": dict(sorted(kept.items()))}


def custom(files: list[Path]) -> dict[str, Any]:
    """Return the schemas of every served version of the custom resources in `files`."""
    roots: dict[str, str] = {}
    kept: dict[str, Any] = {}
    for file in files:
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            if not version["served"]:
                continue
            name = f"{spec['group']}/{version['name']}/{spec['names']['kind']}"
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"].pop("status", None)
            schema["properties"]["metadata"] = {"type": "object"}
            if spec["names"]["kind"] == "ApplicationSet":
                # Generators hold generators that hold generators; we have one, of one kind.
                generators = schema["properties"]["spec"]["properties"]["generators"]
                kinds = generators["items"]["properties"]
                generators["items"]["properties"] = {"git": kinds["git"]}
            schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
            roots[name] = kept_name = name.replace("/", ".")
            kept[kept_name] = schema
    return {"roots": dict(sorted(roots.items())), "definitions": dict(sorted(kept.items()))}


def write(name: str, schemas: dict[str, Any]) -> None:
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(schemas, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{path}: {len(schemas['roots'])} kinds, {path.stat().st_size // 1024} KiB")  # noqa: T201  # a command line prints


def main(arguments: list[str]) -> None:
    oldest, newest, *crds = map(Path, arguments)
    HERE.mkdir(exist_ok=True)
    for source in (oldest, newest):
        version = re.search(r"@v(\d+\.\d+)", source.name)
        assert version, f"{source} names no version"
        write(f"kubernetes-{version[1]}", builtin(source))
    sources = dict(zip(CRDS, crds, strict=True))
    write("crds", custom([sources[name] / file for name in CRDS for file in CRDS[name]]))


if __name__ == "__main__":
    main(sys.argv[1:])
