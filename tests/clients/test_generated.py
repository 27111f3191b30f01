"""Clients that are generated from the served OpenAPI document work with the running API."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from harness.stack import Stack

from shortctl.dev.services import command

HERE = Path(__file__).parent
TYPESCRIPT = HERE / "typescript"


@dataclass(frozen=True)
class Server:
    """A running writer, and its OpenAPI document in a file."""

    url: str
    key: str
    document: Path
    api: httpx.Client


@pytest.fixture
def server(
    server_folder: Path, database_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Server]:
    with Stack(server_folder, database_url, redis_url) as stack:
        writer = stack.writer()
        with stack.api(writer) as api:
            document = tmp_path / "openapi.json"
            document.write_bytes(api.get("/api/openapi.json").raise_for_status().content)
            yield Server(writer.url, stack.api_key, document, api)


def run(argv: Sequence[str | Path], folder: Path, **variables: str) -> str:
    """Return what a command wrote to its standard output; it must succeed."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_client_made_by_openapi_python_client_works(server: Server, tmp_path: Path) -> None:
    said = run(
        [
            *command("openapi-python-client", "generate"),
            *("--path", server.document),
            *("--config", HERE / "openapi-python-client.yaml"),
            *("--output-path", tmp_path / "shortlinks_client"),
            *("--meta", "none"),
            "--fail-on-warning",
        ],
        tmp_path,
    )
    assert "WARNING" not in said
    usage = [sys.executable, HERE / "usage.py", server.url, server.key]
    assert run(usage, tmp_path, PYTHONPATH=str(tmp_path)) == "done\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_models_made_by_datamodel_code_generator_read_and_write_links(
    server: Server, tmp_path: Path
) -> None:
    run(
        [
            *command("datamodel-codegen"),
            *("--input", server.document),
            *("--input-file-type", "openapi"),
            *("--output", tmp_path / "models.py"),
            *("--output-model-type", "pydantic_v2.BaseModel"),
            *("--target-python-version", "3.11"),
            *("--formatters", "builtin"),
        ],
        tmp_path,
    )
    models = load(tmp_path / "models.py")
    api = server.api
    wanted = models.CreateLink(
        target="https://example.com/", code="generated-models", tags=[models.Tag("typed")]
    )
    body = wanted.model_dump_json(exclude_unset=True)
    answer = api.post("/api/v1/links", content=body, headers={"content-type": "application/json"})
    created = models.LinkView.model_validate_json(answer.content)
    assert created.status is models.LinkStatus.active
    assert created.created_at.tzinfo is not None

    path = "/api/v1/links/localhost/generated-models"
    change = models.EditLink(redirect_status=308, enabled=False)
    edited = api.patch(path, json=change.model_dump(mode="json", exclude_unset=True))
    assert models.LinkView.model_validate_json(edited.content).redirect_status == 308
    sent_back = models.LinkView.model_validate_json(edited.content).model_dump(mode="json")
    assert api.patch(path, json=sent_back).json() == edited.json()
    page = models.LinkPage.model_validate_json(
        api.get("/api/v1/links", params={"status": "disabled"}).content
    )
    assert [link.code for link in page.items] == ["generated-models"]
    assert api.delete(path).status_code == 204
    problem = models.Problem.model_validate_json(api.patch(path, json={"title": "x"}).content)
    assert problem.status == 409


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_types_made_by_openapi_typescript_compile_and_fit(server: Server, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("there is no npm on this machine")
    work = tmp_path / "typescript"
    shutil.copytree(TYPESCRIPT, work, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if installed.returncode != 0 and "EINTEGRITY" not in installed.stderr:
        pytest.skip(f"npm cannot install the generator here: {installed.stderr[-300:]}")
    assert installed.returncode == 0, installed.stderr
    tools = work / "node_modules" / ".bin"
    run([tools / "openapi-typescript", server.document, "-o", work / "schema.ts"], work)
    run([tools / "tsc", "--project", work], work)
    assert run([node, work / "usage.js", server.url, server.key], work) == "done\n"


def load(path: Path) -> ModuleType:
    """Return the module in a file; classes of pydantic look their module up by its name."""
    spec = importlib.util.spec_from_file_location("generated_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
