"""The cases: what is requested, from redirectors with which settings.

Every case has a redirector of its own, so that no case finds another's links in the local cache.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from harness.stack import Part
from harness.waiting import until

from bench import traffic
from bench.deployment import Deployment
from bench.load import LoadError, send_all
from bench.machine import SERVER_CORES, pin
from bench.traffic import HOST, Stream

EMPTY_REDIS = 15
"""A database of Valkey without links."""

NO_LOCAL_CACHE = {"L1_MAX_ENTRIES": "10"}
"""So few entries that a link is evicted long before it is requested again."""

_LOOKUPS = re.compile(
    r'^shortlinks_lookup_total\{layer="(\w+)",result="(hit|negative|refused)"\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Before each round, every request of `warm` is sent once. With `empty_redis`, the redirector has a
    Redis database of its own, which is empty at the start of each round.
    """

    name: str
    stream: Stream
    status: int = 302
    settings: Mapping[str, str] = field(default_factory=dict)
    warm: Stream | None = None
    empty_redis: bool = False


@dataclass(frozen=True)
class Server:
    """A running server for one case. `label` tells it from other servers for the same case."""

    case: Case
    label: str
    port: int
    pid: int
    prepare: Callable[[], None] = lambda: None
    """Called before each round."""

    part: Part | None = None

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"{self.case.name}, {self.label}" if self.label else self.case.name

    def check(self) -> None:
        """Raise LoadError unless the server responds as the case expects."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as client:
            for path in self.case.stream.sample:
                response = client.get(path, headers={"host": HOST})
                target = response.headers.get("location", "")
                expected = "https://example.com/" if self.case.status == 302 else ""
                if response.status_code != self.case.status or not target.startswith(expected):
                    raise LoadError(f"{self.name}: {path}: {response.status_code} {target}")

    def lookups(self) -> Counter[str]:
        """Return how many lookups each layer has answered since the start."""
        text = self.part.ask("/metrics")[1] if self.part else ""
        return Counter(
            {f"{layer} {result}": round(float(n)) for layer, result, n in _LOOKUPS.findall(text)}
        )


def redirect_cases(folder: Path, codes: Sequence[str]) -> list[Case]:
    """Write the request files and return the cases; `codes` are in random order."""
    paths = [f"/{code}" for code in codes]
    popular, cached = paths[:10_000], paths[: len(paths) // 10]
    unknown = traffic.unknown_codes(codes, len(codes), seed=3)
    mix = traffic.weighted(paths, traffic.zipf(len(paths)), min(1_000_000, 5 * len(paths)), seed=5)
    small_cache = {"L1_MAX_ENTRIES": str(len(cached)), "L1_TTL_S": "600"}

    def stream(name: str, paths: Sequence[str]) -> Stream:
        return traffic.gets(folder / f"{name}.requests", paths)

    local = stream("local", traffic.weighted(popular, None, 100_000, seed=2))
    every = stream("every", paths)
    warm = stream("popular", popular)
    return [
        Case("local hit", local, warm=warm),
        Case("local hit by ASGI", local, settings={"REDIRECTOR_SERVER": "asgi"}, warm=warm),
        Case("Redis hit", every, settings=NO_LOCAL_CACHE),
        Case("PostgreSQL hit", every, settings=NO_LOCAL_CACHE, empty_redis=True),
        Case("unknown code", stream("unknown", unknown), status=404),
        Case("invalid code", stream("invalid", traffic.invalid(100_000, seed=4)), status=404),
        Case("Zipf mix", stream("zipf", mix), settings=small_cache, warm=stream("cached", cached)),
    ]


def start(case: Case, deployment: Deployment, label: str = "") -> Server:
    """Start a redirector for a case."""
    servers, settings = deployment.servers, dict(case.settings)
    if case.empty_redis:
        settings["REDIS_URL"] = servers.redis_database(EMPTY_REDIS)
    part = deployment.stack.redirector(**settings)
    pin(part.child.pid, SERVER_CORES)
    port = int(part.url.rpartition(":")[2])

    def ready() -> bool:
        # Until the custom codes are loaded, a redirector looks up every unknown code.
        return case.status != 404 or part.metric("shortlinks_custom_codes_trusted") == 1

    def prepare() -> None:
        if case.empty_redis:
            servers.empty(EMPTY_REDIS)
        if case.warm is not None:
            send_all(port, case.warm)

    until(ready, "the custom codes are loaded", within_s=60)
    return Server(case, label, port, part.child.pid, prepare, part)


def selected(*names: str) -> list[str]:
    """Return those of `names` that the environment variable CASES lists, or all without it."""
    wanted = [name for name in os.environ.get("CASES", "").split(",") if name]
    unknown = set(wanted) - set(names)
    if unknown:
        raise SystemExit(f"CASES: no case {', '.join(unknown)}; there are: {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]
