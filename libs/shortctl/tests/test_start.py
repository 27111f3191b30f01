"""What commands load at their start: nobody waits for libraries that a command has no use for."""

import subprocess
import sys

import pytest

SLOW = ("alembic", "asyncio", "asyncpg", "httpx", "pydantic", "redis", "rich", "sqlalchemy")


@pytest.mark.parametrize("module", ["shortctl.main", "shortctl.links", "shortctl.links.importing"])
def test_links_load_no_library_that_only_other_commands_need(module):
    code = f"import {module}, sys; print(*sorted({{*{SLOW}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
