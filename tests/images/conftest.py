"""The images as they would ship, on a real Docker engine; without one these tests are skipped.

An engine that answers is all that is asked for: whatever fails then is a failure. The base and the
servers are `python:3.11-slim`, `postgres:18`, `valkey/valkey:9` and
`nginxinc/nginx-unprivileged:stable`, or local images of these names.
"""

import io
import json
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.waiting import until

ROOT = Path(__file__).parents[2]
FACTS = {
    "SOURCE_DATE_EPOCH": "1700000000",
    "CREATED": "2023-11-14T22:13:20Z",
    "VERSION": "1.2.3",
    "REVISION": "0123456789abcdef0123456789abcdef01234567",
    "SOURCE": "https://example.org/shortlinks",
}
NO_SHELL = """
import os, glob
for path in {*glob.glob('/bin/*sh'), *glob.glob('/usr/bin/*sh'), '/bin/busybox'}:
    if os.path.lexists(path):
        os.remove(path)
"""


class Engine:
    """The `docker` command, and everything made through it, which goes away at the end."""

    def __init__(self) -> None:
        self.run_id = f"shortlinks-test-{secrets.token_hex(4)}"
        self._containers: list[str] = []
        self._images: list[str] = []

    def __call__(self, *arguments: str, feed: bytes | None = None) -> str:
        """Return what `docker` printed; fails with what it complained of."""
        done = subprocess.run(
            ["docker", *arguments],
            input=feed,
            capture_output=True,
            check=False,
            env=os.environ | {"DOCKER_BUILDKIT": "0"},
        )
        if done.returncode:
            raise AssertionError(
                f"docker {' '.join(arguments)} ended with {done.returncode}:\n"
                f"{done.stdout.decode()[-2000:]}\n{done.stderr.decode()[-4000:]}"
            )
        return done.stdout.decode().strip()

    def build(self, service: str, *options: str) -> str:
        """Build the image of `service` and return its id."""
        facts = [f"--build-arg={name}={value}" for name, value in FACTS.items()]
        file = f"--file=docker/{service}.Dockerfile"
        return self._keep("build", "--quiet", file, *facts, *options, str(ROOT))

    def without_shell(self, image: str) -> str:
        """Return `image` with every shell taken out."""
        user = self.inspect(image)["Config"]["User"]
        run = json.dumps(["/usr/local/bin/python3", "-c", NO_SHELL])
        file = f"FROM {image}\nUSER 0\nRUN {run}\nUSER {user}\n"
        return self._keep("build", "--quiet", "-", feed=file.encode())

    def start(self, name: str, *arguments: str) -> str:
        """Start a container in the background; others on its network know it as `name`."""
        container = self("run", "--detach", "--name", f"{self.run_id}-{name}", *arguments)
        self._containers.append(container)
        return container

    def inspect(self, name: str) -> Any:
        """Return what the engine knows of an image or a container."""
        return json.loads(self("inspect", name))[0]

    def logs(self, container: str) -> str:
        """Return the end of what a container printed."""
        done = subprocess.run(
            ["docker", "logs", "--tail", "40", container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return done.stdout.decode()

    def wait(self, container: str, wanted: Callable[[Any], bool], within_s: float = 60) -> Any:
        """Return the state of a container that is `wanted`; fails with its log if it ends."""

        def reached() -> Any:
            state = self.inspect(container)["State"]
            if wanted(state):
                return state
            assert state["Running"], f"{state}\n{self.logs(container)}"
            return None

        return until(
            reached,
            f"{container} is in the wanted state",
            within_s,
            every_s=0.2,
            details=lambda: self.logs(container),
        )

    def healthy(self, container: str) -> None:
        """Return when the image's own healthcheck says so."""
        self.wait(container, lambda state: state["Health"]["Status"] == "healthy")

    def files(self, image: str, folder: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """Return the files and links under `folder` of an image."""
        container = self("create", image)
        try:
            tar = subprocess.run(
                ["docker", "cp", f"{container}:{folder}", "-"], capture_output=True, check=True
            ).stdout
        finally:
            self("rm", container)
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            return {
                member.name: (member, file.read() if (file := _open(archive, member)) else b"")
                for member in archive
            }

    def succeeds(self, *arguments: str) -> bool:
        """Say whether `docker` ends with 0."""
        done = subprocess.run(["docker", *arguments], capture_output=True, check=False)
        return done.returncode == 0

    def close_containers(self) -> None:
        """Remove the containers, with their volumes."""
        if self._containers:
            self("rm", "--force", "--volumes", *self._containers)
            self._containers.clear()

    def close(self) -> None:
        """Remove all that was made."""
        self.close_containers()
        for image in reversed(self._images):
            self("rmi", "--force", image)

    def _keep(self, *arguments: str, feed: bytes | None = None) -> str:
        image = self(*arguments, feed=feed).splitlines()[-1]
        if image not in self._images:
            self._images.append(image)
        return image


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return archive.extractfile(member) if member.isfile() else None


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.strip()}")
    made = Engine()
    yield made
    made.close()


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    """The id of each service's image."""
    return {service: engine.build(service) for service in ("writer", "redirector")}
