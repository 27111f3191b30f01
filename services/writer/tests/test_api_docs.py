"""docs/api.md and the OpenAPI document agree with the API."""

import re
from pathlib import Path

import httpx
import pytest
from harness.contract import Contract
from openapi_spec_validator import OpenAPIV31SpecValidator

from shortcore.errors import ShortlinksError

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "api.md"


def every(kind: type[ShortlinksError]) -> set[type[ShortlinksError]]:
    return {kind}.union(*(every(each) for each in kind.__subclasses__()))


def raised(kind: type[ShortlinksError]) -> bool:
    """Whether our code raises it; some classes only group others."""
    sources = (path for top in ("libs", "services") for path in (ROOT / top).glob("*/src/**/*.py"))
    return any(re.search(rf"(?<!class )\b{kind.__name__}\(", path.read_text()) for path in sources)


def test_every_problem_type_that_is_raised_is_documented_with_its_status_and_no_other():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    ours = {each for each in every(ShortlinksError) if each.__module__ == "shortcore.errors"}
    assert {(kind, int(status)) for kind, status in rows} == {
        (each.type, each.status) for each in ours if raised(each)
    }
    for kind in ours:
        assert raised(kind) or kind.__subclasses__(), f"nothing raises {kind.__name__}"


async def test_the_openapi_document_is_valid_and_open_to_all(api):
    async with api.without_key() as client:
        document = (await client.get("/api/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["responses"].keys() >= {"400", "401", "500", "503"}, path
    described = PAGE.read_text("utf-8")
    for path in document["paths"]:
        shown = re.sub(r"\{(?:key|webhook)_id\}", "{id}", path.removeprefix("/api/v1"))
        assert shown.replace("{delivery_id}", "{delivery}") in described, path


async def test_every_schema_of_the_openapi_document_has_valid_examples(api):
    document = (await api.client.get("/api/openapi.json")).json()
    contract = Contract(document)
    parts_of_others = {"BatchResult", "ImportFailure", "ProblemField", "TagCount"}
    parts_of_others |= {"PeriodView", "Point", "TopLinkView", "ValueView"}
    for name, schema in document["components"]["schemas"].items():
        if name in parts_of_others:
            continue
        assert schema.get("examples"), f"{name} has no example"
        for example in schema["examples"]:
            errors = contract.validator(f"/components/schemas/{name}").iter_errors(example)
            assert not [error.message for error in errors], name


@pytest.mark.parametrize("wrong", [{"etag": None}, {"etag": "7"}, {"x-new": "1"}])
async def test_a_response_with_undocumented_headers_breaks_the_contract(api, wrong):
    link = await api.create()
    answer = await api.client.get(link["self"])
    sent = dict(answer.headers)
    contract = Contract((await api.client.get("/api/openapi.json")).json())
    contract.check("GET", link["self"], 200, httpx.Headers(sent), answer.content)
    changed = {name: value for name, value in (sent | wrong).items() if value is not None}
    with pytest.raises(AssertionError, match=r"etag|ETag|x-new"):
        contract.check("GET", link["self"], 200, httpx.Headers(changed), answer.content)


async def test_a_header_of_some_responses_is_documented_for_these_responses(api):
    document = (await api.client.get("/api/openapi.json")).json()
    responses = document["paths"]["/api/v1/links"]["post"]["responses"]
    replayed = responses["201"]["headers"]["Idempotency-Replayed"]
    assert (replayed["required"], replayed["schema"]) == (False, {"const": "true"})
    assert responses["409"]["headers"]["Retry-After"]["required"] is False
    assert responses["503"]["headers"]["Retry-After"]["required"] is True
    for each in range(2):  # what the client saw is held to the document: see conftest.py
        answer = await api.client.post(
            "/api/v1/links", json={"target": "https://a.example/"}, headers={"idempotency-key": "k"}
        )
        assert ("idempotency-replayed" in answer.headers) is bool(each)
