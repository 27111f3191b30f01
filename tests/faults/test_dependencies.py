"""Every way in which Redis and PostgreSQL can fail, and what visitors and API clients then get.

With WRITE_FAULT_TABLE set the figures go into docs/operations/disaster-drills.md (`make fault-table`).
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from harness import servers
from harness.databases import fetch
from harness.ledger import Ledger
from harness.proxy import Mode
from harness.rig import Rig, make_links, new_target
from harness.stack import Part
from harness.visitor import Answer, Visitor, quantile, visit
from harness.waiting import until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.xdist_group("dependencies")]

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "disaster-drills.md"
BEGIN, END = "<!-- fault table: begin -->", "<!-- fault table: end -->"
CONNECTIONS = 40
WRITE_TIMEOUT_MS = 1000
LINKS = 40
LOCAL_HITS = 3000
CREATES = 20
RECOVERS_WITHIN_S = 15
# What a call may take at the most: Redis, then PostgreSQL, on a machine that does other things.
SLOWEST_LOOKUP_S = 0.05 + 0.5 + 0.7
SLOWEST_CREATE_S = WRITE_TIMEOUT_MS / 1000 + 0.5 + 0.7

Heading = str
COLUMNS: dict[Heading, str] = {
    "local": "link in the local cache",
    "redis": "link in Redis",
    "postgres": "link in PostgreSQL only",
    "unknown": "unknown code",
    "create": "create",
}
WELL = {"local": {302}, "redis": {302}, "postgres": {302}, "unknown": {404}, "create": {201}}
NO_POSTGRES = {"postgres": {503}, "unknown": {503}, "create": {503}}


@dataclass(frozen=True)
class Fault:
    name: str
    inflict: Callable[[Rig], AbstractContextManager[object]]
    differs: dict[Heading, set[int]]


@contextmanager
def nothing(_rig: Rig) -> Iterator[None]:
    yield


@contextmanager
def redis_stopped(rig: Rig) -> Iterator[None]:
    rig.redis.stop()
    yield
    rig.redis.start()


@contextmanager
def redis_paused(rig: Rig) -> Iterator[None]:
    rig.redis.pause()
    yield
    rig.redis.resume()


def redis_wire(mode: Mode, *, delay_ms: float = 0) -> Callable[[Rig], AbstractContextManager[None]]:
    @contextmanager
    def inflict(rig: Rig) -> Iterator[None]:
        rig.redis_wire.set(mode, delay_ms=delay_ms)
        yield
        rig.redis_wire.set(Mode.PASS)

    return inflict


@contextmanager
def postgres_garbage(rig: Rig) -> Iterator[None]:
    rig.postgres_wire.set(Mode.GARBAGE)
    yield
    rig.postgres_wire.set(Mode.PASS)


@contextmanager
def redis_full(rig: Rig) -> Iterator[None]:
    with rig.valkey() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", "256mb")


@contextmanager
def redis_replica(rig: Rig) -> Iterator[None]:
    with rig.valkey() as client:
        client.replicaof("127.0.0.1", 1)  # nobody is there: it keeps what it has
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def postgres_stopped(rig: Rig) -> Iterator[None]:
    rig.postgres.stop()
    yield
    rig.postgres.start()


@contextmanager
def postgres_paused(rig: Rig) -> Iterator[None]:
    rig.postgres.pause()
    yield
    rig.postgres.resume()


@contextmanager
def postgres_full(rig: Rig) -> Iterator[None]:
    """Somebody else has taken every connection after the services had lost theirs."""

    async def take() -> list[asyncpg.Connection]:
        taken: list[asyncpg.Connection] = []
        while True:
            try:
                taken.append(await asyncpg.connect(rig.postgres.url))
            except asyncpg.TooManyConnectionsError:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> ALL($1::int[]) AND backend_type = 'client backend'"
                killed = await taken[0].fetch(others, [one.get_server_pid() for one in taken])
                if not killed:
                    return taken

    with asyncio.Runner() as runner:
        taken = runner.run(take())
        yield
        for one in taken:
            runner.run(one.close())


@contextmanager
def postgres_read_only(rig: Rig) -> Iterator[None]:
    fetch(rig.postgres.url, "ALTER SYSTEM SET default_transaction_read_only = on")
    fetch(rig.postgres.url, "SELECT pg_reload_conf()")
    yield
    fetch(rig.postgres.url, "ALTER SYSTEM RESET default_transaction_read_only")
    fetch(rig.postgres.url, "SELECT pg_reload_conf()")


@contextmanager
def postgres_restarted(rig: Rig) -> Iterator[None]:
    rig.postgres.stop()
    rig.postgres.start()
    yield


@contextmanager
def both_stopped(rig: Rig) -> Iterator[None]:
    with redis_stopped(rig), postgres_stopped(rig):
        yield


@contextmanager
def both_black_holes(rig: Rig) -> Iterator[None]:
    for wire in (rig.redis_wire, rig.postgres_wire):
        wire.set(Mode.BLACK_HOLE)
    yield
    for wire in (rig.redis_wire, rig.postgres_wire):
        wire.set(Mode.PASS)


FAULTS = [
    Fault("nothing", nothing, {}),
    Fault("Redis stopped", redis_stopped, {}),
    Fault("Redis paused (SIGSTOP)", redis_paused, {}),
    Fault("Redis black-holed", redis_wire(Mode.BLACK_HOLE), {}),
    Fault("Redis slow (200 ms)", redis_wire(Mode.PASS, delay_ms=200), {}),
    Fault("Redis answers garbage", redis_wire(Mode.GARBAGE), {}),
    Fault("Redis full (noeviction)", redis_full, {}),
    Fault("Redis a read-only replica", redis_replica, {}),
    Fault("PostgreSQL stopped", postgres_stopped, NO_POSTGRES),
    Fault("PostgreSQL paused (SIGSTOP)", postgres_paused, NO_POSTGRES),
    Fault("PostgreSQL answers garbage", postgres_garbage, NO_POSTGRES),
    Fault("PostgreSQL out of connections", postgres_full, NO_POSTGRES),
    Fault("PostgreSQL read-only", postgres_read_only, {"create": {503}}),
    Fault(
        "PostgreSQL just restarted",
        postgres_restarted,
        {"postgres": {302, 503}, "unknown": {404, 503}, "create": {201, 503}},
    ),
    Fault("both stopped", both_stopped, NO_POSTGRES | {"redis": {503}}),
    Fault("both black-holed", both_black_holes, NO_POSTGRES | {"redis": {503}}),
]


@dataclass(eq=False)
class Scene:
    """The running stack and the rows of the table so far."""

    rig: Rig
    writer: Part
    relay: Part
    redirector: Part
    rows: list[str]

    def get(self, paths: list[str]) -> list[tuple[str, Answer]]:
        return asyncio.run(visit(self.redirector.url, paths, clients=4))

    def create(self, number: int) -> list[tuple[str, Answer]]:
        async def client(targets: list[str]) -> list[tuple[str, Answer]]:
            headers = {"Authorization": f"Bearer {self.rig.stack.api_key}"}
            async with Visitor(self.writer.url, headers) as visitor:
                return [
                    (target, await visitor.request("POST", "/api/v1/links", {"target": target}))
                    for target in targets
                ]

        async def clients() -> list[tuple[str, Answer]]:
            targets = [new_target() for _ in range(number)]
            first, second = await asyncio.gather(client(targets[::2]), client(targets[1::2]))
            return first + second

        return asyncio.run(clients())

    def settled(self) -> bool:
        """Whether all has reached Redis, and the relay knows that this is the Redis it serves."""
        with self.rig.valkey() as client:
            server = client.info("server")["run_id"]
        return bool(
            fetch(
                self.rig.postgres.url,
                "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_many)"
                " + (SELECT count(*) FROM republish) = 0"
                f" AND (SELECT servers LIKE '{server}%' FROM feed_position)",
            )
        )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        folder = stack.enter_context(servers.open_folder())
        options = servers.FAST | {"max_connections": str(CONNECTIONS)}
        settings = {"POSTGRES_WRITE_TIMEOUT_MS": str(WRITE_TIMEOUT_MS)}
        rig = stack.enter_context(Rig(folder, settings, postgres_options=options))
        parts = rig.stack
        scene = Scene(rig, parts.writer(), parts.relay(), parts.redirector(), [])
        yield scene
        if "WRITE_FAULT_TABLE" in os.environ:
            write_table(scene.rows)


def unknown_codes(number: int) -> list[str]:
    return [f"/no-{secrets.token_hex(6)}" for _ in range(number)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_visitors_and_clients_get(fault: Fault, scene: Scene, ledger: Ledger) -> None:
    rig = scene.rig
    with rig.stack.api(scene.writer) as api:
        local = make_links(api, 10)
        in_redis = make_links(api, LINKS)
        in_postgres = make_links(api, LINKS)
    until(scene.settled, "all is in Redis", 3 * RECOVERS_WITHIN_S)  # but a preparation
    with rig.valkey() as client:
        for path in in_postgres:
            assert client.delete(*client.scan_iter(match=f"*/{path[1:]}}}", count=10_000)) == 1
    targets = local | in_redis | in_postgres
    for path, answer in scene.get(list(local)):
        assert (answer.status, answer.location) == (302, targets[path])

    with fault.inflict(rig):
        answers = {
            "local": scene.get(list(local) * (LOCAL_HITS // len(local))),
            "redis": scene.get(list(in_redis)),
            "postgres": scene.get(list(in_postgres)),
            "unknown": scene.get(unknown_codes(LINKS)),
            "create": scene.create(CREATES),
        }
    check_redirects(answers, targets, ledger)
    expected = WELL | fault.differs
    for column, seen in answers.items():
        statuses = {answer.status for _, answer in seen}
        assert statuses <= expected[column], (column, statuses)
        slowest = max(answer.seconds for _, answer in seen)
        limit = SLOWEST_CREATE_S if column == "create" else SLOWEST_LOOKUP_S
        assert slowest < limit, f"{column}: {slowest:.3f} s"
    # Nothing is asked for a local hit, so no fault may show: the median tells, as this machine's
    # other work does not reach it.
    assert quantile([answer.seconds for _, answer in answers["local"]], 0.5) < 10
    scene.rows.append(row(fault.name, answers))

    for target, answer in answers["create"]:
        if answer.status == 201:
            targets[f"/{answer.json()['code']}"] = target
    recovers(scene, targets, ledger)


def check_redirects(
    answers: dict[Heading, list[tuple[str, Answer]]], targets: dict[str, str], ledger: Ledger
) -> None:
    for column in ("local", "redis", "postgres", "unknown"):
        for path, answer in answers[column]:
            wrong_target = answer.status == 302 and answer.location != targets.get(path)
            lost = answer.status in {404, 410} and path in targets
            ledger.check(
                not wrong_target and not lost, f"{path}: {answer.status} {answer.location}"
            )
    for seen in answers.values():
        for path, answer in seen:
            assert answer.status != 503 or answer.header("retry-after"), path


def recovers(scene: Scene, targets: dict[str, str], ledger: Ledger) -> None:
    """See every link right again soon, and what was acknowledged meanwhile with them."""
    until(lambda: scene.create(1)[0][1].status == 201, "creates again", RECOVERS_WITHIN_S)
    [unknown] = unknown_codes(1)
    until(
        lambda: scene.get([unknown])[0][1].status == 404,
        "unknown codes are told",
        RECOVERS_WITHIN_S,
    )
    until(
        lambda: all(
            scene.redirector.metric(f'shortlinks_breaker_state{{dependency="{name}"}}') == 0
            or not scene.get(unknown_codes(1))
            for name in ("redis", "postgres")
        ),
        "the breakers close",
        RECOVERS_WITHIN_S,
    )
    for path, answer in scene.get(list(targets)):
        ledger.check(
            (answer.status, answer.location) == (302, targets[path]),
            f"afterwards {path}: {answer.status} {answer.location}",
        )


def row(name: str, answers: dict[Heading, list[tuple[str, Answer]]]) -> str:
    cells = [name]
    for column in COLUMNS:
        seen = [answer for _, answer in answers[column]]
        statuses = "/".join(str(status) for status in sorted({one.status for one in seen}))
        seconds = [one.seconds for one in seen]
        cells.append(f"{statuses}: {quantile(seconds, 0.5):.1f} / {quantile(seconds, 0.99):.1f}")
    return f"| {' | '.join(cells)} |"


def write_table(rows: list[str]) -> None:
    head = ["what is wrong", *COLUMNS.values()]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *rows]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + "\n".join([BEGIN, *table, END]) + after)
