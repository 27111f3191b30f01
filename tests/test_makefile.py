"""What `make` gives to the programs that it starts."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_start_leaves_bytecode_for_the_next_one_also_where_none_is_wanted_by_default(tmp_path):
    program = tmp_path / "venv" / "bin" / "shortctl"
    program.parent.mkdir(parents=True)
    # Stands for the whole stack: one of its modules is enough.
    program.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c 'import redirector.main'\n"
    )
    program.chmod(0o755)
    for stamp in (".built", ".run"):
        (tmp_path / "venv" / stamp).touch()
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    subprocess.run(
        ["make", "run", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env=given | {"PYTHONDONTWRITEBYTECODE": "1"},  # as in many images
        check=True,
    )
    kept = tmp_path / "venv" / "pycache"
    source = ROOT / "services" / "redirector" / "src" / "redirector" / "main.py"
    assert list(kept.joinpath(*source.parent.parts[1:]).glob("main.*.pyc"))
    assert list(kept.rglob("asyncpg/__init__.*.pyc"))
