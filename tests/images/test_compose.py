"""docker/compose.yaml at work, by a small reader of it: an engine need not have the compose plugin.

All but what the profile `observability` adds, whose images nobody can build here.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from harness.waiting import until

from shortctl.embedded.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images"), pytest.mark.timeout(600)]

DOCKER = Path(__file__).parents[2] / "docker"
UNDERSTOOD = {
    "build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "healthcheck",
    "image", "logging", "networks", "ports", "profiles", "read_only", "restart", "secrets",
    "security_opt", "shm_size", "stop_grace_period", "stop_signal", "tmpfs", "user", "volumes",
}  # fmt: skip


class Compose:
    """The services of the file, as containers."""

    def __init__(self, engine, images, folder):
        self.engine = engine
        self.images = images
        self.folder = folder
        self.port = free_port()
        text = (folder / "compose.yaml").read_text()
        self.file = yaml.safe_load(self._filled_in(text))
        self.services = {
            name: service
            for name, service in self.file["services"].items()
            if "profiles" not in service
        }
        self.containers = {}
        self.volumes = set()
        self.networks = {name: f"{engine.run_id}-{name}" for name in self.file["networks"]}

    def _filled_in(self, text):
        given = {"SHORTLINKS_PORT": str(self.port)}
        filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: given.get(m[1], m[2]), text)
        assert "${" not in filled
        return filled.replace("$$", "$")

    def up(self):
        """Start everything in the order of `depends_on`, waiting as it says."""
        for name, network in self.networks.items():
            options = ["--internal"] if (self.file["networks"][name] or {}).get("internal") else []
            for pool in self.file["networks"][name].get("ipam", {}).get("config", []):
                options += [f"--subnet={pool['subnet']}", f"--ip-range={pool['ip_range']}"]
            self.engine("network", "create", *options, network)
        left = dict(self.services)
        while left:
            name = next(
                name for name, each in left.items() if not left.keys() & each.get("depends_on", {})
            )
            for other, how in left[name].get("depends_on", {}).items():
                self._wait(other, how["condition"])
            self._start(name)
            del left[name]
        for name in self.services:
            if "healthcheck" in self.services[name] and name != "migrate":
                self._wait(name, "service_healthy")

    def run(self, name, *command):
        """Run one command of a service's image to its end; returns what it printed."""
        return self.engine("run", "--rm", *self._options(name), self._image(name), *command)

    def down(self):
        """Remove what was made."""
        self.engine.close_containers()
        for volume in self.volumes:
            self.engine("volume", "rm", volume)
        for network in self.networks.values():
            self.engine("network", "rm", network)

    def _image(self, name):
        image = self.services[name]["image"]
        own = re.match(r"shortlinks-(\w+):", image)
        return self.images[own[1]] if own else image

    def _options(self, name):
        service = self.services[name]
        assert service.keys() <= UNDERSTOOD, service.keys() - UNDERSTOOD
        first = next(iter(service["networks"]))
        options = [f"--network={self.networks[first]}"]
        options += ["--read-only"] if service["read_only"] else []
        options += [f"--cap-drop={each}" for each in service["cap_drop"]]
        options += [f"--security-opt={each}" for each in service["security_opt"]]
        options += [f"--tmpfs={each}" for each in service.get("tmpfs", [])]
        options += [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
        options += [
            f"--{key.replace('_', '-')}={service[key]}"
            for key in ("user", "shm_size", "stop_signal")
            if key in service
        ]
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                source = str((self.folder / source).resolve())
                assert Path(source).exists(), source
            else:
                source = f"{self.engine.run_id}-{source}"
                self.volumes.add(source)
            options.append(f"--volume={source}:{rest}")
        for secret in service.get("secrets", []):
            file = self.folder / self.file["secrets"][secret]["file"]
            options.append(f"--volume={file.resolve()}:/run/secrets/{secret}:ro")
        return options

    def _start(self, name):
        service = self.services[name]
        networks = service["networks"]
        options = [*self._options(name), f"--network-alias={name}", "--health-interval=1s"]
        if service.get("healthcheck", {}).get("disable"):
            options[-1] = "--no-healthcheck"
        addresses = networks if isinstance(networks, dict) else {}
        first, *others = networks
        if addresses.get(first):
            options.append(f"--ip={addresses[first]['ipv4_address']}")
        options += [f"--publish={port}" for port in service.get("ports", [])]
        command = [str(word) for word in service.get("command", [])]
        if "entrypoint" in service:
            program, *words = service["entrypoint"] or [""]
            options.append(f"--entrypoint={program}")
            command = [*words, *command]
        self.containers[name] = self.engine.start(
            f"compose-{name}", *options, self._image(name), *command
        )
        for other in others:
            ip = [f"--ip={addresses[other]['ipv4_address']}"] if addresses.get(other) else []
            self.engine(
                *("network", "connect", f"--alias={name}", *ip),
                *(self.networks[other], self.containers[name]),
            )

    def _wait(self, name, condition):
        container = self.containers[name]
        if condition == "service_completed_successfully":
            state = self.engine.wait(container, lambda state: not state["Running"])
            assert state["ExitCode"] == 0, self.engine.logs(container)
        elif "test" in self.services[name]["healthcheck"]:
            kind, *test = self.services[name]["healthcheck"]["test"]
            assert kind == "CMD"
            self.engine.wait(container, lambda _: self.engine.succeeds("exec", container, *test))
        else:
            self.engine.healthy(container)

    def ask(self, path, host, data=None, **headers):
        """Return status, headers and body of a request to the published port."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if data is None else json.dumps(data).encode(),
            headers={"Host": host, "Content-Type": "application/json"} | headers,
        )
        opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=15) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def sql(self, server, statement):
        """Return what a PostgreSQL of the file answers to its superuser."""
        psql = ("psql", "-U", "postgres", "-d", "shortlinks", "-tA", "-c", statement)
        return self.engine("exec", self.containers[server], *psql)


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture(scope="module")
def compose(engine, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compose") / "docker"
    shutil.copytree(DOCKER, folder)
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    subprocess.run([folder / "create-secrets"], check=True, capture_output=True)
    (folder / "secrets").chmod(0o755)
    made = Compose(engine, images, folder)
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_a_link_is_created_and_followed_through_the_published_port(compose):
    key = compose.run("writer", "create-key", "--name=me").split()[-1]
    link = {"target": "https://example.com/by-compose"}
    status, _, body = compose.ask(
        "/api/v1/links", "api.localhost", link, Authorization=f"Bearer {key}"
    )
    assert status == 201, body
    made = json.loads(body)
    assert made["short_url"] == f"http://localhost:{compose.port}/{made['code']}"
    status, headers, _ = compose.ask(f"/{made['code']}", "localhost")
    assert (status, headers["Location"]) == (302, link["target"])


def test_the_worker_counts_what_was_followed_and_the_api_shows_it(compose):
    key = compose.run("writer", "create-key", "--name=me").split()[-1]
    bearer = {"Authorization": f"Bearer {key}"}
    link = {"target": "https://example.com/counted"}
    made = json.loads(compose.ask("/api/v1/links", "api.localhost", link, **bearer)[2])
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    for agent in (browser, browser, "Googlebot/2.1"):
        assert compose.ask(f"/{made['code']}", "localhost", **{"User-Agent": agent})[0] == 302

    def counted():
        found = json.loads(compose.ask(made["self"], "api.localhost", **bearer)[2])
        return (found["visits"], found["clicks"]) == (2, 3)

    until(counted, "both visits and the bot's click are counted")


def test_the_replica_follows_and_takes_the_look_ups(compose):
    for number in range(20):  # unknown to every cache, so PostgreSQL is asked
        assert compose.ask(f"/unknown-{number}", "localhost")[0] == 404
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    assert compose.sql("postgres", streaming) == "1"
    asked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'shortlinks'"
    assert compose.sql("postgres-replica", asked) == "t"


def test_the_stores_are_out_of_reach_of_the_edge(compose):
    container = compose.containers["nginx"]
    for name, port in (("postgres", 5432), ("valkey", 6379)):
        reach = ("exec", container, "bash", "-c", f"exec 3<>/dev/tcp/{name}/{port}")
        assert not compose.engine.succeeds(*reach)


def test_it_goes_on_without_one_redirector_and_without_the_stores(compose):
    key = compose.run("writer", "create-key", "--name=me").split()[-1]
    body = compose.ask(
        "/api/v1/links", "api.localhost", {"target": "https://a.example/"},
        Authorization=f"Bearer {key}",
    )[2]  # fmt: skip
    code = json.loads(body)["code"]
    for _ in range(10):  # both redirectors know it
        assert compose.ask(f"/{code}", "localhost")[0] == 302
    gone = [compose.containers[name] for name in ("redirector-1", "postgres", "valkey")]
    compose.engine("stop", "--time=20", *gone)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert compose.ask(f"/{code}", "localhost")[0] == 302


def test_every_service_of_the_file_is_confined(compose):
    for name, service in compose.file["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
