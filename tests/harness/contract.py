"""Holds every answer of the API that a test sees to the OpenAPI document."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

PROBLEM = "application/problem+json"
_NAME = "urn:openapi"
_FRAMING = {"content-type", "content-length"}  # the rest of the description says these


class Contract:
    """Knows the document; `check` fails with what an answer says against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry = Registry().with_resource(_NAME, resource)
        # `/links/{domain}/{code}` also fits what `/links/{domain}/{code}:restore` names, and
        # `/stats/{dimension}` what `/stats/links` names.
        narrowest_first = sorted(
            document["paths"].items(), key=lambda item: (item[0].count("{"), -len(item[0]))
        )
        self._paths = [(_pattern(path), operations) for path, operations in narrowest_first]

    def validator(self, pointer: str) -> Draft202012Validator:
        """Return the validator of the schema at a JSON pointer of the document."""
        return Draft202012Validator({"$ref": f"{_NAME}#{pointer}"}, registry=self._registry)

    def check(
        self, method: str, url: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Assert that this answer is one that the document describes for this request.

        `headers` finds names in any case.
        """
        path = urlsplit(url).path
        media_type = headers.get("content-type", "")
        said = f"{method} {path}: {status} {media_type} {body[:300]!r}"
        operations = next((found for fits, found in self._paths if fits.fullmatch(path)), None)
        if method == "OPTIONS" and status == 204 and operations is not None:
            assert set(operations) <= {name.lower() for name in headers["allow"].split(", ")}, said
            return
        if method == "HEAD":
            assert not body, said
            if operations is None or "get" not in operations:
                assert media_type == PROBLEM, said
                return
            responses = operations["get"]["responses"]
            assert str(status) in responses, f"{said} is not documented, but {sorted(responses)}"
            self._check_headers(responses[str(status)]["headers"], headers, said)
            return
        if operations is None or method.lower() not in operations:
            assert media_type == PROBLEM, said
            described = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        else:
            responses = operations[method.lower()]["responses"]
            assert str(status) in responses, f"{said} is not documented, but {sorted(responses)}"
            self._check_headers(responses[str(status)]["headers"], headers, said)
            described = responses[str(status)].get("content", {})
        if not described:
            assert not body, said
            return
        if media_type == "text/csv; charset=utf-8":
            assert "text/csv" in described, f"{said} is not documented, but {sorted(described)}"
            return
        assert media_type in described, f"{said} is not documented, but {sorted(described)}"
        pointer = described[media_type]["schema"]["$ref"].removeprefix("#")
        errors = [error.message for error in self.validator(pointer).iter_errors(json.loads(body))]
        assert not errors, f"{said}: {errors}"

    def _check_headers(self, described: dict[str, Any], sent: Mapping[str, str], said: str) -> None:
        unknown = {name.lower() for name in sent} - {name.lower() for name in described} - _FRAMING
        assert not unknown, f"{said}: the headers {sorted(unknown)} are not documented"
        for name, header in described.items():
            value: str | int | None = sent.get(name)
            if value is None:
                assert not header["required"], f"{said}: {name} is documented, but not sent"
                continue
            if header["schema"].get("type") == "integer":
                value = int(value)
            errors = [
                each.message for each in Draft202012Validator(header["schema"]).iter_errors(value)
            ]
            assert not errors, f"{said}: {name}: {errors}"


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^}]*\}", path)
    return re.compile("[^/]+".join(map(re.escape, parts)))
