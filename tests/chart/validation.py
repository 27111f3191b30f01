"""Checks objects against the kept schemas, as strictly as the API server: an unknown field is a
fault, and so is a kind that no schema is kept for."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parent / "schemas"


@functools.cache
def _schemas(kubernetes: str) -> tuple[dict[str, str], dict[str, Any]]:
    roots: dict[str, str] = {}
    definitions: dict[str, Any] = {}
    for name in (f"kubernetes-{kubernetes}", "crds", "cnpg"):
        kept = json.loads((SCHEMAS / f"{name}.json").read_text())
        roots |= kept["roots"]
        definitions |= kept["definitions"]
    return roots, definitions


@functools.cache
def _validator(kubernetes: str, root: str) -> jsonschema.Draft7Validator:
    definitions = _schemas(kubernetes)[1]
    return jsonschema.Draft7Validator({"$ref": f"#/definitions/{root}", "definitions": definitions})


def faults(found: Iterable[dict[str, Any]], kubernetes: str) -> list[str]:
    """Return a line for each fault, naming the object and the field."""
    lines = []
    for each in found:
        key = f"{each.get('apiVersion')}/{each.get('kind')}"
        title = f"{each.get('kind')}/{each.get('metadata', {}).get('name')}"
        root = _schemas(kubernetes)[0].get(key)
        if root is None:
            lines.append(f"{title}: no schema is kept for {key}")
            continue
        for error in _validator(kubernetes, root).iter_errors(each):
            place = ".".join(str(part) for part in error.absolute_path)
            lines.append(f"{title}: {place}: {error.message[:300]}")
    return lines
