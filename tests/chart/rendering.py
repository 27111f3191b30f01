"""Renders the chart with every Helm that can be found, and reads what came out.

`HELM3` and `HELM4` name the binaries; else `helm3`, `helm4` and `helm` of the PATH are tried.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "charts" / "shortlinks"
CASES = sorted((HERE / "cases").glob("*.yaml"))
GOLDEN = HERE / "golden"

OLDEST, NEWEST = "1.31", "1.37"
"""The versions of Kubernetes whose schemas are kept: the oldest that the chart takes, and the
newest that it was checked against."""

Manifest: TypeAlias = dict[str, Any]

# The parser in C, ten times as fast, where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Refused(Exception):
    """Helm did not render; the text is what it says."""


@functools.cache
def helms() -> dict[int, str]:
    """Return the Helm binaries at hand by major version."""
    found: dict[int, str] = {}
    for name in (os.environ.get("HELM3"), os.environ.get("HELM4"), "helm3", "helm4", "helm"):
        path = name and shutil.which(name)
        if not path:
            continue
        said = subprocess.run(
            [path, "version", "--short"], capture_output=True, text=True, check=False
        )
        version = re.match(r"v(\d+)\.", said.stdout)
        if version:
            found.setdefault(int(version[1]), path)
    return found


def any_helm() -> str:
    """Return one Helm, the newest; raises LookupError where there is none."""
    if not helms():
        raise LookupError("no Helm: set HELM3 or HELM4, or put helm3, helm4 or helm on the PATH")
    return helms()[max(helms())]


def template(
    helm: str,
    *values: Path,
    chart: Path = CHART,
    sets: Sequence[str] = (),
    kubernetes: str = NEWEST,
    release: str = "links",
) -> str:
    """Return what `helm template` writes; raises Refused when it refuses.

    What it wrote once is remembered: see `template_anew`.
    """
    return _remembered(helm, values, chart, tuple(sets), kubernetes, release)


def template_anew(
    helm: str,
    values: Sequence[Path] = (),
    chart: Path = CHART,
    sets: Sequence[str] = (),
    kubernetes: str = NEWEST,
    release: str = "links",
) -> str:
    """Return what `helm template` writes now; raises Refused when it refuses."""
    command = [helm, "template", release, str(chart), "--namespace", "shortlinks"]
    command += ["--kube-version", f"{kubernetes}.0"]
    for file in values:
        command += ["--values", str(file)]
    for pair in sets:
        command += ["--set", pair]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


# Each case is looked at by a dozen tests. A copy of the chart is another path.
_remembered = functools.cache(template_anew)


def manifests(text: str) -> list[Manifest]:
    """Return the objects of a rendered text, in an order of their own."""
    found = [each for each in yaml.load_all(text, LOADER) if each]
    return sorted(found, key=lambda each: (each["apiVersion"], each["kind"], name_of(each)))


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def one(found: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """Return the only object of this kind and name."""
    (match,) = [each for each in found if each["kind"] == kind and name_of(each) == name]
    return match


def pods(found: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the pod template of everything that makes pods, named for what makes it."""
    for each in found:
        title = f"{each['kind']}/{name_of(each)}"
        if each["kind"] == "Pod":
            yield title, each
        elif "template" in each.get("spec", {}) and each["kind"] != "ApplicationSet":
            yield title, each["spec"]["template"]


def golden(found: Sequence[Manifest]) -> str:
    """Return the text that is kept: no order, no comments, no style of the templates."""
    return yaml.dump_all(found, Dumper=DUMPER, sort_keys=True, width=10_000, allow_unicode=True)
