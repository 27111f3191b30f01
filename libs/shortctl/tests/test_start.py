"""A command imports only the libraries that it needs, so that it starts fast."""

import subprocess
import sys

import pytest

SLOW = ("alembic", "asyncio", "asyncpg", "httpx", "pydantic", "redis", "rich", "sqlalchemy")


@pytest.mark.parametrize(
    "module", ["shortctl.main", "shortctl.links", "shortctl.links.importing.command"]
)
def test_the_links_commands_import_no_library_of_other_commands(module):
    code = f"import {module}, sys; print(*sorted({{*{SLOW}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
