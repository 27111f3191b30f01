"""values.yaml, its schema, the alerts and the dashboard say the same."""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from chart import rendering
from chart.rendering import CASES, CHART, ROOT

from shortcore.runtime import dynamic_settings
from shortcore.settings.catalog import ALL, DYNAMIC

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of the schema that lists properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            if key not in {"if", "then"}:  # conditions: they close nothing
                yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_the_schema_is_a_schema_and_closed_but_for_global() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    closed = {path: part.get("additionalProperties") for path, part in objects(SCHEMA)}
    assert [path for path, value in closed.items() if value is not False] == ["/properties/global"]


def unset(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[str]:
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(values, dict):
        return
    for key, part in schema.get("properties", {}).items():
        if key not in values:
            yield f"{path}{key}"
        else:
            yield from unset(part, values[key], f"{path}{key}.")


def test_every_key_of_the_schema_has_a_default() -> None:
    assert list(unset(SCHEMA, VALUES)) == []


def leaves(values: Any, path: str = "") -> Iterator[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}{key}.")
    else:
        yield path.rstrip(".")


def test_every_value_is_used_by_a_template() -> None:
    source = "".join(
        path.read_text()
        for folder in ("templates", "files")
        for path in (CHART / folder).rglob("*")
        if path.is_file()
    )
    # Rendered whole, whatever their keys.
    whole = {
        *("behavior", "labels", "parameters", "resources", "podSecurityContext", "dynamic"),
        *("startupProbe", "livenessProbe", "readinessProbe"),
    }
    for leaf in leaves(VALUES):
        if whole & set(leaf.split(".")):
            continue
        name = leaf.rpartition(".")[2]
        assert re.search(rf"\.{name}\b", source), f"no template reads {leaf}"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_settings_are_those_that_the_services_know(newest_helm: str, case: Any) -> None:
    known = {f"SHORTLINKS_{name.upper()}" for each in ALL for name in each.model_fields}
    given = {
        name
        for each in rendering.manifests(rendering.template(newest_helm, case))
        if each["kind"] == "ConfigMap"
        for name in each.get("data", {})
        if name.startswith("SHORTLINKS_")
    }
    assert given
    unknown = {name for name in given if not {name, name.removesuffix("_FILE")} & known}
    assert not unknown


def test_the_dynamic_values_are_the_dynamic_settings_with_their_rules() -> None:
    assert set(VALUES["dynamic"]) == DYNAMIC
    given = {name: value for name, value in VALUES["dynamic"].items() if value is not None}
    assert dynamic_settings.parse(yaml.safe_dump(given).encode()) == given


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(newest_helm: str) -> None:
    case = next(case for case in CASES if case.stem == "everything")
    found = rendering.manifests(rendering.template(newest_helm, case))
    groups = rendering.one(found, "PrometheusRule", "links-shortlinks")["spec"]["groups"]
    alerts = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for group in groups
        for rule in group["rules"]
        if rule.get("alert", "").startswith("Shortlinks")
    }
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "runbooks").glob("S*.md")}
    assert set(alerts) == set(pages)
    rule = SCHEMA["properties"]["metrics"]["properties"]["prometheusRule"]["properties"]
    assert rule["disabled"]["items"]["enum"] == sorted(alerts)
    for alert, url in alerts.items():
        assert url.endswith(f"/docs/runbooks/{alert}.md")
        headings = re.findall("^## (.*)", pages[alert], re.MULTILINE)
        assert headings == ["What users notice", "What to look at", "What to do"], alert


PAGES = [*(ROOT / "docs").rglob("*.md"), CHART / "README.md", *(ROOT / "argocd").glob("*.md")]


def test_the_pages_speak_of_metrics_and_alerts_that_exist() -> None:
    pages = "".join(path.read_text() for path in PAGES)
    assert names_in(pages)
    for name in names_in(pages):
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert {name, plain} & exported(), f"{name} is exported by nothing"
    alerts = set(re.findall(r"\bShortlinks[A-Z]\w+", pages))
    assert alerts == {path.stem for path in (ROOT / "docs" / "runbooks").glob("S*.md")}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bshortlinks_[a-z0-9_]+", text))


@functools.cache
def exported() -> set[str]:
    """Names of metrics in the code of the services."""
    sources = (path for top in ("libs", "services") for path in (ROOT / top).glob("*/src/**/*.py"))
    return names_in("".join(path.read_text() for path in sources))


def test_alerts_and_dashboard_speak_of_metrics_that_exist(newest_helm: str) -> None:
    case = next(case for case in CASES if case.stem == "everything")
    found = rendering.manifests(rendering.template(newest_helm, case))
    rules = json.dumps(rendering.one(found, "PrometheusRule", "links-shortlinks")["spec"])
    dashboard = (CHART / "files" / "dashboard.json").read_text()
    for name in names_in(rules) | names_in(dashboard):
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert {name, plain} & exported(), f"{name} is exported by nothing"


def test_the_dashboard_is_valid_and_its_panels_have_ids_of_their_own() -> None:
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    assert all(panel["targets"] for panel in panels)
