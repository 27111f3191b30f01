"""The benchmarks: what they report, and that they run in the environment of `make run`."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import asyncpg
import pytest
from bench.creates import Created, settle
from bench.report import before_and_after, create_table
from bench.rounds import Measured
from bench.traffic import weighted, zipf

ROOT = Path(__file__).parents[1]


async def test_a_measurement_waits_until_links_created_in_bulk_are_delivered(database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO outbox_many (changed_at, links) VALUES (now(), 1000)")
    waiting = asyncio.create_task(settle(database_url))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await connection.execute("DELETE FROM outbox_many")
    assert await waiting >= 0.3
    await connection.close()


def test_the_longest_delivery_is_reported_beside_the_rate():
    found = Created("batches", rates=[900.0, 1000.0, 1100.0], delivered_s=[0.4, 2.5, 1.0])
    (row,) = rows(create_table([found]))
    assert (row["links per s"], row["delivered after s (max)"]) == ("1,000", "2.5")


def test_a_change_that_costs_more_than_three_percent_misses_its_target():
    def case(label, per_cpu_s):
        us = {"p99": [1.0] * 3}
        return Measured("local hit", label, rates=[1.0] * 3, per_cpu_s=per_cpu_s, us=us)

    before = case("before", [100.0, 200.0, 300.0])
    (slower, *_) = before_and_after([before, case("after", [96.0, 192.0, 288.0])])
    (same, *_) = before_and_after([before, case("after", [98.0, 196.0, 294.0])])
    assert (slower.met, same.met) == (False, True)


def test_paths_are_drawn_by_their_weights():
    paths = weighted(["/a", "/b", "/c"], zipf(3), 11_000, seed=1)
    assert [round(paths.count(path) / 1000) for path in ("/a", "/b", "/c")] == [6, 3, 2]


@pytest.fixture(scope="module")
def run_environment(tmp_path_factory):
    """Return an environment that has only what `make run` installs."""
    venv = tmp_path_factory.mktemp("checkout") / ".venv"
    make(f"{venv}/.run", VENV=venv)
    assert not list(venv.glob("lib/*/site-packages/pytest"))
    return venv


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("benchmarks")
@pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler")
class TestMake:
    """Each benchmark in its shortest form, from the environment of `make run`."""

    def test_bench(self, run_environment, tmp_path):
        sizes = {"LINKS": 1000, "ROUNDS": 1, "SECONDS": 0.3, "CASES": "local hit,creates"}
        printed = make("bench", VENV=run_environment, RESULTS=tmp_path, **sizes)
        found = {row["what"]: float(row["median"]) for row in rows(printed, "what")}
        assert 0.1 < found["local hit / no-op ASGI, per CPU second"] < 20
        assert 0.01 < found["create, 16 connections / pgbench insert, 16 connections"] < 10
        assert 0.001 < found["import of a CSV / COPY"] < 10
        written = json.loads((tmp_path / "bench.json").read_text())
        assert written["conditions"]["PostgreSQL fsync"] == "on"
        (local, *_) = written["redirects"]  # nginx too, where it is installed
        assert (local["name"], 1000 < local["per_cpu_s"][0] < 1e6) == ("local hit", True)
        assert set(local["lookups"]) <= {"local hit", "redis hit"}

    def test_compare(self, run_environment):
        sizes = {"LINKS": 1000, "ROUNDS": 1, "SECONDS": 0.3, "CASES": "local hit"}
        printed = make("compare", VENV=run_environment, BEFORE=run_environment.parent, **sizes)
        found = {row["what"]: float(row["median"]) for row in rows(printed, "what")}
        assert 0.2 < found["local hit: after / before, per CPU second"] < 5
        assert {row["server"] for row in rows(printed, "case")} == {"before", "after"}

    def test_scale(self, run_environment, tmp_path):
        sizes = {"LINKS": "100,1000", "ROUNDS": 1}
        printed = make("scale", VENV=run_environment, RESULTS=tmp_path, **sizes)
        found = {row[""]: float(row["1,000 links"].replace(",", "")) for row in rows(printed, "")}
        assert 10 < found["lookup, µs"] < 1e5
        assert 50 < found["PostgreSQL, the table: bytes per link"] < 1000
        assert 50 < found["Valkey: bytes per link"] < 5000
        assert 0.1 < found["start of a redirector, s"] < 60
        ratios = json.loads((tmp_path / "scale.json").read_text())["ratios"]
        assert all(0.1 < value < 10 for ratio in ratios for value in ratio["values"])

    def test_soak_memory(self, run_environment, tmp_path):
        sizes = {"LINKS": 1000, "MINUTES": 0.05}
        printed = make("soak-memory", VENV=run_environment, RESULTS=tmp_path, **sizes)
        (row,) = rows(printed, "MiB at the start")
        assert 20 < float(row["MiB at the start"]) <= float(row["MiB at most"]) < 500
        assert row["verdict"] == "too short for a verdict"
        assert re.fullmatch(r"\{'302': \d+, '404': \d+\}", row["responses"])
        assert len(json.loads((tmp_path / "soak.json").read_text())["samples"]) > 5


def make(target, **variables):
    """Run a target; returns what it prints. A target that was missed makes the exit code 2."""
    removed = ("PYTHONPYCACHEPREFIX", "MAKEFLAGS", "MAKELEVEL")
    done = subprocess.run(
        ["make", target, *(f"{name}={value}" for name, value in variables.items())],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in removed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0 or "## Conditions" in done.stdout, done.stderr
    assert "- incomplete" not in done.stdout, done.stdout
    return done.stdout


def rows(markdown, first_column=None):
    """Return the rows of the tables whose first column has that name; all rows if it is None."""
    found, head = [], None
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif not line.startswith("| ---") and first_column in {None, head[0]}:
            found.append(dict(zip(head, cells, strict=True)))
    return found
