"""What is in the images, and what is not."""

import json

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images"), pytest.mark.timeout(600)]

SERVICES = pytest.mark.parametrize("service", ["writer", "redirector"])
# The build arguments of the fixtures, as they must show.
EPOCH = 1_700_000_000
LABELS = {
    "created": "2023-11-14T22:13:20Z",
    "licenses": "Apache-2.0",
    "revision": "0123456789abcdef0123456789abcdef01234567",
    "source": "https://example.org/shortlinks",
    "version": "1.2.3",
}


@SERVICES
def test_the_image_says_what_it_is_and_how_it_wants_to_be_run(engine, images, service):
    config = engine.inspect(images[service])["Config"]
    assert config["User"] == "65532:65532"  # a number: kubelets cannot tell that a name is not root
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == [f"/opt/shortlinks/bin/shortlinks-{service}"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][0] == "CMD"  # CMD-SHELL would need a shell
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels | LABELS == labels
    assert labels["title"] == f"shortlinks-{service}"


@SERVICES
def test_only_what_runs_is_in_the_image(engine, images, service):
    files = engine.files(images[service], "/opt/shortlinks")
    folders = {part for name in files for part in name.split("/")[:-1]}
    assert not folders & {"pip", "setuptools", "hatchling", "__pycache__", "tests", "include"}
    programs = {name.removeprefix("shortlinks/bin/") for name in files if "shortlinks/bin/" in name}
    assert programs - {""} == {"python", "python3", "python3.11", f"shortlinks-{service}"}


@SERVICES
def test_nobody_but_root_can_change_the_image(engine, images, service):
    for name, (member, _) in engine.files(images[service], "/opt/shortlinks").items():
        assert (member.uid, member.gid) == (0, 0), name
        assert member.issym() or member.mode & 0o022 == 0, name


@SERVICES
def test_every_module_is_compiled_whatever_the_time_of_its_source(engine, images, service):
    files = engine.files(images[service], "/opt/shortlinks")
    sources = {name for name in files if name.endswith(".py")}
    assert len(sources) > 500
    for source in sources:
        path = source.removesuffix(".py")
        _, compiled = files[f"shortlinks/bytecode/opt/{path}.cpython-311.pyc"]
        assert compiled[4:8] == b"\x01\x00\x00\x00", f"{source} is compiled, but not unchecked"


@SERVICES
def test_a_start_compiles_nothing(engine, images, service):
    code = (
        "import sys, importlib.machinery as m, json\n"
        "read = m.SourceFileLoader.source_to_code\n"
        "compiled = []\n"
        "def spy(self, data, path, **options):\n"
        "    compiled.append(path)\n"
        "    return read(self, data, path, **options)\n"
        "m.SourceFileLoader.source_to_code = spy\n"
        f"import {service}.main, http.client\n"
        "print(json.dumps(compiled))"
    )
    arguments = ("--rm", "--read-only", "--entrypoint", "python", images[service], "-c", code)
    assert json.loads(engine("run", *arguments)) == []


def test_two_builds_give_the_same_files(engine, images):
    again = engine.build("writer", "--no-cache")  # the longer of two files that share their steps
    assert again != images["writer"]
    first, second = (
        {
            name: (member.mode, member.mtime, member.uid, member.gid, member.linkname, content)
            for name, (member, content) in engine.files(image, "/opt/shortlinks").items()
            if name != "shortlinks"  # the classic builder gives it the time of its COPY
        }
        for image in (images["writer"], again)
    )
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert {mtime for _, mtime, *_ in first.values()} == {EPOCH}


@SERVICES
def test_without_settings_it_says_what_is_missing_and_ends(engine, images, service):
    container = engine.start(f"bare-{service}", "--read-only", images[service])
    state = engine.wait(container, lambda state: not state["Running"])
    assert state["ExitCode"] == 2
    assert "SHORTLINKS_POSTGRES_URL: required" in engine.logs(container)


@SERVICES
def test_the_healthcheck_fails_where_nothing_answers(engine, images, service):
    container = engine.start(
        f"deaf-{service}",
        *("--health-interval=1s", "--health-retries=1", "--health-start-period=1s"),
        *("--entrypoint", "python", images[service], "-c", "import time; time.sleep(600)"),
    )
    engine.wait(container, lambda state: state["Health"]["Status"] == "unhealthy")
