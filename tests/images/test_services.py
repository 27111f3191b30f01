"""The images at work: without a shell, without capabilities, on a read-only file system."""

import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest
from harness.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images"), pytest.mark.timeout(600)]

DOCKER = Path(__file__).parents[2] / "docker"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PASSWORD = "only-in-this-test"
DRAIN_S = 2.0
QUICK = ("--health-interval=1s", "--health-start-period=30s")


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@dataclass
class Containers:
    """Addresses on this machine, and the containers behind them."""

    edge: str
    containers: dict[str, str]
    key: str

    def ask(self, path, *, host="localhost", data=None, **headers):
        """Return status, headers and body of a request to the edge; follows nothing."""
        request = urllib.request.Request(
            self.edge + path,
            data=None if data is None else json.dumps(data).encode(),
            headers={"Host": host} | {k.replace("_", "-"): v for k, v in headers.items()},
        )
        opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=15) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def create(self, **link):
        """Return what the API answers to a new link."""
        status, _, body = self.ask(
            "/api/v1/links",
            host="api.localhost",
            data=link,
            Authorization=f"Bearer {self.key}",
            Content_Type="application/json",
        )
        assert status == 201, body
        return json.loads(body)


@pytest.fixture(scope="module")
def network(engine):
    engine("network", "create", engine.run_id)
    yield engine.run_id
    engine.close_containers()
    engine("network", "rm", engine.run_id)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The options that give a container its settings: secrets from files, as in production."""
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o755)
    secrets = {
        "postgres_url": f"postgresql://postgres:{PASSWORD}@postgres:5432/shortlinks",
        "redis_url": "redis://valkey:6379/0",
        "code_secret": "a-secret-of-this-test",
    }
    options = [f"--volume={folder}:/run/secrets:ro", "--env=SHORTLINKS_SHORT_URL_SCHEME=http"]
    for name, value in secrets.items():
        (folder / name).write_text(value)
        options.append(f"--env=SHORTLINKS_{name.upper()}_FILE=/run/secrets/{name}")
    options.append(f"--env=SHORTLINKS_DRAIN_DELAY_MS={int(DRAIN_S * 1000)}")
    return options


@pytest.fixture(scope="module")
def stack(engine, images, network, settings):
    on = f"--network={network}"
    bare = {service: engine.without_shell(image) for service, image in images.items()}

    def start(name, image, *arguments, options=()):
        return engine.start(name, on, f"--network-alias={name}", *options, image, *arguments)

    def service(name, kind, *arguments, options=()):
        return start(name, bare[kind], *arguments, options=[*HARDENED, *QUICK, *settings, *options])

    postgres = start(
        "postgres",
        "postgres:18",
        options=[f"--env=POSTGRES_PASSWORD={PASSWORD}", "--env=POSTGRES_DB=shortlinks"],
    )
    containers = {"postgres": postgres, "valkey": start("valkey", "valkey/valkey:9")}
    ready = ["exec", postgres, "pg_isready", "-h", "127.0.0.1", "-d", "shortlinks"]
    until(
        lambda: engine.succeeds(*ready),
        "PostgreSQL answers",
        60,
        every_s=0.2,
        details=lambda: engine.logs(postgres),
    )
    for turn in ("first", "second"):  # a migration that is done already is no fault
        migrate = service(f"migrate-{turn}", "writer", "migrate")
        state = engine.wait(migrate, lambda state: not state["Running"])
        assert state["ExitCode"] == 0, engine.logs(migrate)
    containers |= {
        "writer": service("writer", "writer", "serve"),
        "relay": service("relay", "writer", "relay"),
        "worker": service("worker", "writer", "worker"),
        "redirector-1": service("redirector-1", "redirector", "serve"),
        "redirector-2": service("redirector-2", "redirector", "serve"),
    }
    for name in ("writer", "relay", "worker", "redirector-1", "redirector-2"):
        engine.healthy(containers[name])
    key = engine("run", "--rm", on, *HARDENED, *settings, bare["writer"], "create-key", "--name=me")
    containers["edge"] = start(
        "edge",
        "nginxinc/nginx-unprivileged:stable",
        *("nginx", "-g", "daemon off;"),
        options=[
            *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--publish=127.0.0.1::8080"),
            f"--volume={DOCKER}/nginx/nginx.conf:/etc/nginx/nginx.conf:ro",
            f"--volume={DOCKER}/nginx/pages:/etc/nginx/pages:ro",
            f"--volume={DOCKER}/nginx/static:/etc/nginx/static:ro",
        ],
    )
    port = engine("port", containers["edge"], "8080/tcp").splitlines()[0].rpartition(":")[2]
    made = Containers(f"http://127.0.0.1:{port}", containers, key.split()[-1])

    def answers():
        assert engine.inspect(containers["edge"])["State"]["Running"], engine.logs("edge")
        return made.ask("/static/pages.css")

    until(answers, "the edge answers", 60, every_s=0.1, retry=(OSError,))
    return made


def test_a_link_is_created_through_one_image_and_followed_through_the_other(stack):
    link = stack.create(target="https://example.com/somewhere")
    status, headers, _ = stack.ask(f"/{link['code']}")
    assert (status, headers["Location"]) == (302, "https://example.com/somewhere")


def test_the_api_is_not_on_the_hosts_of_short_links_nor_the_other_way_round(stack):
    link = stack.create(target="https://example.com/")
    assert stack.ask("/api/v1/links", Authorization=f"Bearer {stack.key}")[0] == 404
    assert stack.ask(f"/{link['code']}", host="api.localhost")[0] == 404


def test_the_edge_keeps_entity_tags_strong_so_that_if_match_works_through_it(stack):
    link = stack.create(target="https://example.com/", note="long enough to compress " * 100)
    _, headers, _ = stack.ask(
        link["self"],
        host="api.localhost",
        Authorization=f"Bearer {stack.key}",
        Accept_Encoding="gzip",
    )
    assert headers["ETag"] == f'"{link["version"]}"'


def test_a_request_keeps_a_harmless_id_and_loses_another(stack, engine):
    for sent, kept in (("an-id-of-mine", True), ('x"\t<b>', False)):
        _, headers, _ = stack.ask("/api/v1/links", host="api.localhost", X_Request_Id=sent)
        assert (headers["X-Request-Id"] == sent) is kept
        assert re.fullmatch(r"[A-Za-z0-9._-]+", headers["X-Request-Id"])


def test_who_tries_codes_at_random_gets_no_more_than_some_answers_a_second(stack):
    answers = []

    def scan(number):
        answers.extend(stack.ask(f"/no-such-{number}-{turn}")[0] for turn in range(2))

    threads = [Thread(target=scan, args=(number,)) for number in range(10)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [404] * 20
    # 5 a second, the first one free.
    assert time.monotonic() - began > 3.5


def test_a_redirector_that_is_told_to_end_drops_no_request_and_ends_with_0(stack, engine):
    code = stack.create(target="https://example.com/drain")["code"]
    container = stack.containers["redirector-1"]
    answers, enough = [], Event()

    def visit():
        while not enough.is_set():
            answers.append(stack.ask(f"/{code}")[0])

    visitors = [Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    began = time.monotonic()
    engine("stop", "--time=30", container)
    took = time.monotonic() - began
    before = len(answers)
    until(lambda: len(answers) >= before + 20, "20 more answers have come")
    enough.set()
    for visitor in visitors:
        visitor.join()
    assert engine.inspect(container)["State"]["ExitCode"] == 0, engine.logs(container)
    assert DRAIN_S <= took < DRAIN_S + 10  # drain_delay_ms, then at most drain_timeout_ms
    assert set(answers) == {302}
    engine("start", container)
    engine.healthy(container)


@pytest.mark.parametrize("name", ["relay", "worker", "writer"])
def test_sigterm_ends_it_in_order_with_exit_code_0(stack, engine, name):
    container = stack.containers[name]
    began = time.monotonic()
    engine("stop", "--time=30", container)
    assert time.monotonic() - began < DRAIN_S + 10
    assert engine.inspect(container)["State"]["ExitCode"] == 0, engine.logs(container)
    assert '"stopped"' in engine.logs(container)
    engine("start", container)
    engine.healthy(container)


def test_without_any_redirector_the_edge_answers_503_and_when_to_come_back(stack, engine):
    gone = [stack.containers["redirector-1"], stack.containers["redirector-2"]]
    engine("kill", *gone)
    status, headers, body = stack.ask("/whatever")
    assert (status, headers["Retry-After"], headers["Cache-Control"]) == (503, "2", "no-store")
    assert b"Try again" in body
    engine("start", *gone)


def test_without_the_writer_the_edge_answers_503_as_a_problem(stack, engine):
    engine("kill", stack.containers["writer"])
    status, headers, body = stack.ask("/api/v1/links", host="api.localhost")
    assert (status, headers["Content-Type"]) == (503, "application/problem+json")
    assert json.loads(body)["type"] == "urn:shortlinks:problem:unavailable"
    engine("start", stack.containers["writer"])
