"""What an operator does to a cluster: kubectl, helm, and a client pod beside the services."""

import json
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from harness.waiting import until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHART = ROOT / "charts" / "shortlinks"
CLIENT = (HERE / "client.py").read_text()
MARK = "<!-- cluster-times -->"

Object: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Images:
    """Where the images under test are: `<prefix>writer:<tag>`, `<prefix>redirector:<tag>`.

    `prefix` begins with the registry: `docker.io/library/shortlinks-`. `following` is the tag of
    the images that an upgrade goes to.
    """

    prefix: str
    tag: str
    following: str

    def values(self, tag: str) -> Object:
        """Return the chart's values for these images."""
        registry, _, repository = self.prefix.partition("/")
        return {
            service: {
                "image": {"registry": registry, "repository": repository + service, "tag": tag}
            }
            for service in ("writer", "redirector")
        }

    def writer(self) -> str:
        """Return the whole name of the writer's image."""
        return f"{self.prefix}writer:{self.tag}"


def merged(values: Object, changes: Object) -> Object:
    """Return `values` with `changes` merged into them, as Helm merges values."""
    both = dict(values)
    for name, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if deeper else value
    return both


@dataclass
class Load:
    """What visitors got while a `with cluster.load(…)` lasted; filled at its end."""

    requests: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_ms: int = 0

    def check(self, at_least: int = 50) -> None:
        """Fail unless there was load and every request was answered with a redirect."""
        assert self.requests >= at_least, self
        assert self.failed == 0, f"{self.failed} of {self.requests} failed: {self.failures}"


class Cluster:
    """One namespace of the cluster that KUBECONFIG names, and a release `links` in it."""

    def __init__(self, namespace: str, images: Images, helm: str, times: "Times") -> None:
        self.namespace = namespace
        self.images = images
        self.helm_path = helm
        self.times = times
        self.key = ""

    def create_namespace(self) -> None:
        """Make the namespace, restricted, and the client pod in it."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": self.namespace,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            }
        )
        self.apply(client_pod(self.images.writer()))
        self.kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=120s")

    def kubectl(self, *arguments: str, feed: str | None = None) -> str:
        """Return what kubectl printed; fails with what it complained of."""
        return run(["kubectl", "--namespace", self.namespace, *arguments], feed)

    def apply(self, manifest: Object) -> None:
        """Apply one object."""
        self.kubectl("apply", "--filename", "-", feed=json.dumps(manifest))

    def get(self, *arguments: str) -> Object:
        """Return what `kubectl get` finds."""
        found: Object = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def pods(self, component: str) -> list[Object]:
        """Return the pods of a component that are not on their way out."""
        selector = f"--selector=app.kubernetes.io/component={component}"
        return [
            pod
            for pod in self.get("pods", selector)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def ready(self, component: str) -> list[str]:
        """Return the names of its pods that are ready."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)]

    def helm(self, *arguments: str, values: Object | None = None) -> str:
        """Return what helm printed; `values` go over those of the tests."""
        command = [self.helm_path, "--namespace", self.namespace, *arguments]
        if values is None:
            return run(command)
        return run([*command, "--values", "-"], json.dumps(values))

    def install(self, tag: str = "", values: Object | None = None, release: str = "links") -> None:
        """Install the release or upgrade it, and wait until everything is ready."""
        self.helm(
            "upgrade",
            "--install",
            release,
            str(CHART),
            "--values",
            str(HERE / "values.yaml"),
            "--wait",
            "--timeout=5m",
            values=merged(self.images.values(tag or self.images.tag), values or {}),
        )

    def sql(self, statement: str) -> str:
        """Return what the bundled PostgreSQL answers to its superuser, cells apart by `|`."""
        psql = ("psql", "--username=postgres", "--dbname=shortlinks", "--quiet", "--tuples-only")
        options = ("--no-align", "--set=ON_ERROR_STOP=1")
        command = ("exec", "-i", "sts/links-shortlinks-postgresql", "-c=postgresql", "--")
        return self.kubectl(*command, *psql, *options, feed=statement).strip()

    def client(self, *arguments: str) -> list[str]:
        """Run `client.py` in the client pod; returns its lines."""
        return self.kubectl("exec", "client", "--", "python", "-c", CLIENT, *arguments).splitlines()

    def create_key(self) -> None:
        """Make the API key for `make_links`."""
        command = ("shortlinks-writer", "create-key", "--name=cluster-tests")
        made = self.kubectl("exec", "deploy/links-shortlinks-writer", "-c=writer", "--", *command)
        self.key = made.split()[-1]

    def make_links(self, count: int, **more: Any) -> list[Object]:
        """Create links through the writer's Service; returns what it answered."""
        found = self.client(
            "make", "links-shortlinks-writer", self.key, str(count), json.dumps(more)
        )
        return [json.loads(line) for line in found]

    def follow(
        self, links: Sequence[Object], service: str = "links-shortlinks-redirector"
    ) -> list[str]:
        """Return «status location» of each link, from a Service."""
        return self.client("follow", service, *(str(link["code"]) for link in links))

    def right(self, links: Sequence[Object], service: str = "links-shortlinks-redirector") -> bool:
        """Whether each of `links` is answered as the API said."""
        wanted = [f"{link['redirect_status']} {link['target']}" for link in links]
        return self.follow(links, service) == wanted

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[int]:
        """Yield the port of this machine that leads to `port` of `target`, as an operator has it."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 5432
                yield int(said.partition(" -> ")[0].rpartition(":")[2])
            finally:
                process.kill()

    def secret(self, name: str) -> dict[str, str]:
        """Return what a Secret holds."""
        data = self.get("secret", name)["data"]
        return {key: b64decode(value).decode() for key, value in data.items()}

    @contextmanager
    def load(
        self,
        links: Sequence[Object],
        threads: int = 4,
        pause_s: float = 0.02,
        *,
        creating: bool = False,
    ) -> Iterator[Load]:
        """Have visitors follow `links` all the time, and somebody create some if `creating`."""
        command = [
            "kubectl", "--namespace", self.namespace, "exec", "--stdin", "client", "--",
            "python", "-c", CLIENT, "load", "links-shortlinks-redirector",
            str(threads), str(pause_s), "links-shortlinks-writer", self.key if creating else "", *(str(link["code"]) for link in links),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        found = Load()
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "started\n"
                yield found
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        for name, value in json.loads(said).items():
            setattr(found, name, value)


class Times:
    """What was measured; at the end a table, also in docs/operations/disaster-drills.md where that is wanted."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def note(self, what: str, seconds: float, load: Load | None = None) -> None:
        """Add a row."""
        seen = "" if load is None else f"{load.failed} of {load.requests}"
        self.rows.append((what, f"{seconds:.1f} s", seen))

    def table(self) -> str:
        """Return the table in Markdown."""
        head = ("what", "time", "failed requests meanwhile")
        release_first = sorted(self.rows, key=lambda row: row[0].startswith("Argo CD"))
        rows = [head, ("---", "---", "---"), *release_first]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def write(self, page: Path) -> None:
        """Put the table between the marks of `page`."""
        before, _, rest = page.read_text().partition(MARK)
        _, _, after = rest.partition(MARK)
        page.write_text(f"{before}{MARK}\n{self.table()}{MARK}{after}")


def seconds_until(condition: Callable[[], Any], what: str, within_s: float = 120) -> float:
    """Wait until `condition` holds; returns the seconds it took. Asks Kubernetes in between."""
    start = time.monotonic()
    until(condition, what, within_s, every_s=0.3)
    return time.monotonic() - start


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def client_pod(image: str) -> Object:
    """Return a pod that only waits to be used; the writer's image has all that it needs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "command": ["python", "-c", "import threading; threading.Event().wait()"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def run(command: Sequence[str], feed: str | None = None) -> str:
    """Return what a command printed; fails with what it complained of."""
    done = subprocess.run(
        command, input=feed, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        shown = " ".join(word if len(word) < 200 else "…" for word in command)
        raise AssertionError(
            f"{shown}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout
