"""What the benchmark reports, and what it needs to run."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from bench.creates import Created, settle
from bench.measure import Measured
from bench.ratios import before_and_after
from bench.report import Result, markdown

ROOT = Path(__file__).parents[1]


async def test_a_measurement_waits_until_all_created_in_bulk_was_told(database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO outbox_many (changed_at, links) VALUES (now(), 1000)")
    waiting = asyncio.create_task(settle(database_url))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await connection.execute("DELETE FROM outbox_many")
    assert await waiting >= 0.3
    await connection.close()


def test_the_longest_delivery_stands_beside_the_rate():
    found = Created("batches", rates=[900.0, 1000.0, 1100.0], delivered_s=[0.4, 2.5, 1.0])
    head, _, row = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown(Result({}, [], [found], [])).splitlines()
        if line.startswith(("| way", "| ---", "| batches"))
    ][-3:]
    told = dict(zip(head, row, strict=True))
    assert (told["links per s"], told["delivered after s"]) == ("1,000", "2.5")


BENCHES = ["bench.__main__", "bench.compare", "bench.scale", "bench.soak", "bench.steps"]

IMPORT = """
import importlib.metadata, sys
allowed, module = set(sys.argv[1].split()), sys.argv[2]
distributions = importlib.metadata.packages_distributions()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        owners = distributions.get(name.partition(".")[0], ())
        if owners and not any(owner.lower().replace("_", "-") in allowed for owner in owners):
            raise ModuleNotFoundError(f"{name} is not in the environment of `make run`")
sys.meta_path.insert(0, Refuse())
__import__(module)
"""


@pytest.mark.parametrize("module", BENCHES)
def test_a_benchmark_needs_only_the_environment_of_make_run(module):
    pinned = re.findall(
        r"^([\w.-]+)==", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE
    )
    ours = ["shortcore", "shortctl", "shortlinks-writer", "shortlinks-redirector"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, " ".join([*pinned, *ours]), module],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_change_that_costs_more_than_three_percent_misses_its_target():
    def case(server, per_cpu_s):
        return Measured("local hit", server, rates=[1.0] * 3, per_cpu_s=per_cpu_s)

    before = case("before", [100.0, 200.0, 300.0])
    (slower, *_) = before_and_after([before, case("after", [96.0, 192.0, 288.0])])
    (same, *_) = before_and_after([before, case("after", [98.0, 196.0, 294.0])])
    assert (slower.met, same.met) == (False, True)
