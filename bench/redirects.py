"""The cases of the redirector: what is asked, of a redirector with which settings.

Each case has redirectors of its own, so that none finds another's links in its local cache.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import httpx
from harness.stack import Part
from harness.waiting import until

from bench import requests
from bench.baselines import Baseline
from bench.load import LOOPBACK, LoadError
from bench.machine import pin, roles
from bench.plan import Plan
from bench.requests import HOST, Stream
from bench.world import World
from shortcore.settings.redirector import RedirectorSettings

LAYERS = (("codes", "refused"), ("local", "hit"), ("redis", "hit"), ("redis", "negative"), ("postgres", "hit"),
          ("postgres", "negative"))  # fmt: skip
BRIEF = ("local hit", "redis hit", "unknown code")
"""The cases of the servers that are not the default one, unless in full."""


@dataclass(frozen=True)
class Case:
    """One thing to measure; `part` is None for a baseline.

    Before each round `prepare` runs, and every request of `warm` is sent once.
    """

    name: str
    server: str
    port: int
    pid: int
    stream: Stream
    expected: int
    part: Part | None = None
    prepare: Callable[[], None] | None = None
    warm: Stream | None = None

    @property
    def title(self) -> str:
        """Name it in a table."""
        return f"{self.name} ({self.server})" if self.part else self.name

    def check(self) -> None:
        """Raise LoadError unless its server gives the expected answers."""
        with httpx.Client(base_url=f"http://{LOOPBACK}:{self.port}", trust_env=False) as client:
            for path in self.stream.sample:
                answer = client.get(path, headers={"host": HOST}, follow_redirects=False)
                place = answer.headers.get("location", "")
                redirected = self.expected != 302 or place.startswith("https://example.com/")
                if answer.status_code != self.expected or not redirected:
                    raise LoadError(f"{self.title}: {path} gives {answer.status_code} {place}")

    def layers(self) -> dict[str, float]:
        """Return how often each layer answered until now; nothing for a baseline."""
        if self.part is None:
            return {}
        return {
            f"{layer} {result}": self.part.metric(
                f'shortlinks_lookup_total{{layer="{layer}",result="{result}"}}'
            )
            for layer, result in LAYERS
        }


def servers() -> list[str]:
    """Return the servers that the redirector offers, its default first."""
    field = RedirectorSettings.model_fields["redirector_server"]
    offered = [str(each) for each in typing.get_args(field.annotation)]
    return sorted(offered, key=lambda name: name != field.default)


def baseline_cases(baselines: list[Baseline], stream: Stream) -> list[Case]:
    """Return a case for each of `baselines`."""
    return [
        Case(each.name, each.name, each.port, each.child.pid, stream, 302) for each in baselines
    ]


@dataclass(frozen=True)
class Streams:
    """The requests of each case, shared by all servers."""

    local: Stream
    local_once: Stream
    popular_once: Stream
    distinct: Stream
    unknown: Stream
    disguised: Stream
    invalid: Stream
    zipf: Stream

    @classmethod
    def write(cls, world: World, plan: Plan) -> "Streams":
        """Make the files; codes in the world come in random order."""
        folder, codes = world.folder, world.codes
        hot = requests.zipf(codes[: plan.hot_links], 100_000, seed=2, exponent=0)
        once = [f"/{code}" for code in codes[: max(plan.hot_links, plan.local_share)]]
        draws = min(1_000_000, 5 * plan.links)
        unknown = requests.unknown_codes(codes, plan.links, seed=3)
        return cls(
            local=requests.gets(folder / "local.requests", hot),
            local_once=requests.gets(folder / "hot.requests", once[: plan.hot_links]),
            popular_once=requests.gets(folder / "popular.requests", once[: plan.local_share]),
            distinct=requests.gets(folder / "distinct.requests", [f"/{code}" for code in codes]),
            unknown=requests.gets(folder / "unknown.requests", unknown),
            disguised=requests.gets(
                folder / "disguised.requests", requests.disguised(unknown[:100_000])
            ),
            invalid=requests.gets(
                folder / "invalid.requests", requests.invalid(min(100_000, plan.links), seed=4)
            ),
            zipf=requests.gets(folder / "zipf.requests", requests.zipf(codes, draws, seed=5)),
        )


def server_cases(world: World, plan: Plan, streams: Streams) -> list[Case]:
    """Start the redirectors of every server and return their cases."""
    cases: list[Case] = []
    for server in servers():
        every = server == servers()[0] or plan.every_case_on_every_server
        wanted = tuple(_wanted(world, plan, streams)) if every else BRIEF
        programs = {server: "shortlinks-redirector"}
        cases += redirector_cases(
            world, plan, streams, wanted, programs, {"REDIRECTOR_SERVER": server}
        )
    return cases


def redirector_cases(
    world: World,
    plan: Plan,
    streams: Streams,
    names: Sequence[str],
    programs: Mapping[str, str],
    more: Mapping[str, str] = MappingProxyType({}),
) -> list[Case]:
    """Start a redirector for each of the named cases by each of `programs`; return the cases."""
    cases: list[Case] = []
    wanted = _wanted(world, plan, streams)
    for name in names:
        stream, expected, settings, prepare, warm = wanted[name]
        for label, program in programs.items():
            part = world.stack.redirector(program, **more, **settings)
            pin(part.child.pid, roles().server)
            if expected == 404:
                until(partial(_ready, part), "a redirector knows all custom codes", within_s=60)
            port = int(part.url.rpartition(":")[2])
            cases.append(
                Case(name, label, port, part.child.pid, stream, expected, part, prepare, warm)
            )
    return cases


def _ready(part: Part) -> bool:
    # Until then every made-up code is looked up, which is not what is measured.
    return part.metric("shortlinks_custom_codes_trusted") == 1


Wanted = tuple[Stream, int, dict[str, str], Callable[[], None] | None, Stream | None]


def _wanted(world: World, plan: Plan, streams: Streams) -> dict[str, Wanted]:
    tiny = {"L1_MAX_ENTRIES": "10"}  # each link is asked for again long after it fell out
    elsewhere = tiny | {"REDIS_URL": world.other_redis()}
    zipf = {"L1_MAX_ENTRIES": str(plan.local_share), "L1_TTL_S": "600"}
    return {
        "local hit": (streams.local, 302, {}, None, streams.local_once),
        "redis hit": (streams.distinct, 302, tiny, None, None),
        "postgres hit": (streams.distinct, 302, elsewhere, world.empty_other_redis, None),
        "unknown code": (streams.unknown, 404, {}, None, None),
        "unknown code in every form": (streams.disguised, 404, {}, None, None),
        "invalid code": (streams.invalid, 404, {}, None, None),
        "zipf mix": (streams.zipf, 302, zipf, None, streams.popular_once),
    }
