"""The OpenAPI document is the truth: what it allows is accepted, what it forbids is refused.

schemathesis derives valid and invalid requests from the document and sends them to a real writer.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from fuzz.hooks import KNOWN, MAX_TARGET
from harness.stack import Stack

from shortctl.dev.services import command

HERE = Path(__file__).parent
WITHIN_S = 360
"""It takes less than a minute on a machine that has nothing else to do."""


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S + 60)
def test_every_request_is_answered_as_the_openapi_document_says(
    server_folder: Path, database_url: str, redis_url: str
) -> None:
    settings = {
        "LOG_LEVEL": "warning",
        # Small limits, so that values at them and beyond them are made quickly.
        "BATCH_MAX_ITEMS": "5",
        "TARGET_MAX_LENGTH": str(MAX_TARGET),
        "POSTGRES_TIMEOUT_MS": "20000",
        "POSTGRES_WRITE_TIMEOUT_MS": "30000",
    }
    with Stack(server_folder, database_url, redis_url, settings) as stack:
        writer = stack.writer()
        with stack.api(writer) as api:
            for code in KNOWN:
                body = {"target": "https://example.com/", "code": code}
                api.post("/api/v1/links", json=body).raise_for_status()
        done = subprocess.run(
            [
                *command("schemathesis", "--config-file", str(HERE / "schemathesis.toml"), "run"),
                f"{writer.url}/api/openapi.json",
                *("--header", f"Authorization: Bearer {stack.api_key}"),
                *("--phases", "examples,coverage,fuzzing"),
                *("--include-path-regex", "^/api/v1/"),
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "NO_COLOR": "1"},
            cwd=server_folder,  # it keeps files where it runs
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    counts = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", done.stdout)
    assert counts is not None, done.stdout
    assert len(set(counts.groups())) == 1, "an operation was left out"
