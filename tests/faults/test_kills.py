"""kill -9 at the worst moment: nothing acknowledged is lost, no redirect is wrong."""

import asyncio
import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from harness.databases import fetch
from harness.ledger import Ledger
from harness.proxy import Mode
from harness.rig import Rig, api_path, make_links, new_target, waiting
from harness.stack import Part
from harness.visitor import Answer, Load, Visitor, visit
from harness.waiting import until

pytestmark = pytest.mark.fault

BUSY_WRITER = {"PUBLISH_TIMEOUT_MS": "30000", "REDIS_TIMEOUT_MS": "30000"}
BODY = {"code": "pending", "target": "https://example.com/pending"}
LIVES_WITHIN_S = 10


def follow(part: Part, path: str) -> tuple[int, str]:
    [(_, answer)] = asyncio.run(visit(part.url, [path], clients=1))
    return answer.status, answer.location


def follows(part: Part, path: str, target: str) -> Callable[[], bool]:
    return lambda: follow(part, path) == (302, target)


def records(rig: Rig) -> int:
    with rig.valkey() as client:
        return sum(1 for _ in client.scan_iter(match="*l:*", count=1000))


def feed_length(rig: Rig) -> int:
    with rig.valkey() as client:
        return sum(client.xlen(name) for name in client.scan_iter(match="*changes"))


def outbox(rig: Rig) -> int:
    return waiting(rig.postgres.url)


class Request:
    """One request in a thread, whose writer may die before it answers."""

    def __init__(self, api: httpx.Client, headers: dict[str, str] | None = None) -> None:
        self.error: Exception | None = None
        self._send = lambda: api.post("/api/v1/links", json=BODY, headers=headers, timeout=60)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._send()
        except httpx.TransportError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join()


def kill_between_commit_and_answer(
    rig: Rig, writer: Part, api: httpx.Client, headers: dict[str, str] | None = None
) -> None:
    """Have a create committed, hold its publishing, and kill the writer there."""
    rig.redis_wire.set(Mode.BLACK_HOLE)
    request = Request(api, headers)
    until(
        lambda: bool(fetch(rig.postgres.url, "SELECT count(*) FROM links WHERE code = 'pending'")),
        "the link is committed",
    )
    writer.child.kill()
    request.join()
    assert request.error is not None, "the writer answered before it was killed"
    rig.redis_wire.set(Mode.PASS)


def test_a_writer_killed_between_commit_and_publish_loses_nothing(rig: Rig, ledger: Ledger) -> None:
    stack = rig.stack
    writer = stack.writer(**BUSY_WRITER)
    redirector = stack.redirector(REDIS_URL=rig.redis.url)
    assert follow(redirector, "/pending") == (404, "")  # so that 404 stands in both caches
    with stack.api(writer) as api:
        kill_between_commit_and_answer(rig, writer, api)
    with rig.valkey() as client:
        [record] = [client.get(key) for key in client.scan_iter(match="*pending*")]
        assert record == bytes(8), "the cache says «absent» still"
    assert outbox(rig) == 1

    stack.relay()
    until(follows(redirector, "/pending", BODY["target"]), "the relay brings it")
    ledger.check(right=True, what="")
    until(lambda: outbox(rig) == 0, "the outbox is empty")


def test_a_create_repeated_after_a_crash_between_commit_and_answer_gives_the_same_link(
    rig: Rig,
) -> None:
    stack = rig.stack
    writer = stack.writer(**BUSY_WRITER)
    headers = {"Idempotency-Key": "once"}
    with stack.api(writer) as api:
        kill_between_commit_and_answer(rig, writer, api, headers)
        writer.restart()
        again = api.post("/api/v1/links", json=BODY, headers=headers)
        assert again.status_code == 201, again.text
        assert again.json()["target"] == BODY["target"]
        third = api.post("/api/v1/links", json=BODY, headers=headers)
        assert (third.status_code, third.content) == (201, again.content)
        other = api.post("/api/v1/links", json=BODY | {"title": "x"}, headers=headers)
        assert other.status_code == 422
    assert fetch(rig.postgres.url, "SELECT count(*) FROM links") == 1


@pytest.mark.parametrize("moment", ["records are in Redis", "the feed has them"])
def test_a_relay_killed_in_the_middle_of_a_batch_delivers_all_of_it_after(
    rig: Rig, ledger: Ledger, moment: str
) -> None:
    stack = rig.stack
    writer = stack.writer()
    redirector = stack.redirector(REDIS_URL=rig.redis.url)
    with stack.api(writer) as api:
        links = make_links(api, 200)
        for path, target in links.items():
            ledger.check(follow(redirector, path) == (302, target), path)
        # The writer's own publishing is cut off: what follows reaches Redis by the relay alone.
        with rig.valkey() as client:
            client.flushall()
        rig.redis_wire.set(Mode.REFUSE)
        for path in links:
            links[path] = new_target()
            assert api.patch(api_path(path), json={"target": links[path]}).status_code == 200
    # Redis has done each step long before the relay knows: time to kill it, on a busy machine too.
    rig.redis_wire.set(Mode.PASS, delay_ms=1200)
    relay = stack.relay(RELAY_REDIS_TIMEOUT_MS="10000", POSTGRES_WRITE_TIMEOUT_MS="30000")
    if moment == "records are in Redis":
        until(
            lambda: records(rig) >= len(links),
            moment,
        )
        assert feed_length(rig) == 0
    else:
        until(
            lambda: feed_length(rig) > 0,
            moment,
        )
    relay.child.kill()
    assert outbox(rig) >= len(links), "killed too late: the batch was done"

    rig.redis_wire.set(Mode.PASS)
    relay.restart()
    until(lambda: outbox(rig) == 0, "the outbox is empty")
    for path, target in links.items():
        until(follows(redirector, path, target), path, 4)
        ledger.check(right=True, what=path)


def test_redis_killed_under_load_comes_back_empty_and_no_redirect_is_wrong(
    rig: Rig, ledger: Ledger
) -> None:
    stack = rig.stack
    writer = stack.writer()
    relay = stack.relay()
    redirectors = [stack.redirector(L1_TTL_S="1") for _ in range(2)]
    chance = random.Random(random.random())
    with stack.api(writer) as api:
        links = make_links(api, 300)
        edited = dict(list(links.items())[:5])
        fixed = {path: target for path, target in links.items() if path not in edited}
        paths = list(fixed)

        async def ask(visitor: Visitor, url: str) -> Answer:
            path = chance.choice(paths)
            answer = await visitor.get(path)
            ledger.check(
                (answer.status, answer.location) == (302, fixed[path]),
                f"{url}{path}: {answer.status} {answer.location}",
            )
            return answer

        with Load([part.url for part in redirectors], ask, clients=4) as load:
            for _ in range(3):
                load.wait_for(1000)
                for path, target in edited.items():
                    assert follow(redirectors[0], path) == (302, target)
                rig.redis.kill()
                edited = {path: new_target() for path in edited}
                for path, target in edited.items():
                    answer = api.patch(api_path(path), json={"target": target})
                    assert answer.status_code == 200, answer.text
                load.wait_for(1000)
                rig.redis.start()
                load.wait_for(1000)
                for path, target in edited.items():
                    for part in redirectors:
                        until(follows(part, path, target), path, LIVES_WITHIN_S)
                        ledger.check(right=True, what=path)
        assert not load.unanswered, load.unanswered[:5]
    until(lambda: outbox(rig) == 0, "the outbox is empty")
    assert relay.child.running


def test_no_acknowledged_link_is_lost_when_postgresql_is_killed_while_it_writes(
    server_folder: Path, ledger: Ledger
) -> None:
    made: dict[str, str] = {}
    refused: list[Answer] = []
    numbers = itertools.count()

    async def create(visitor: Visitor, _url: str) -> Answer:
        target = f"https://example.com/{next(numbers)}"
        answer = await visitor.request("POST", "/api/v1/links", {"target": target})
        if answer.status == 201:
            made[f"/{answer.json()['code']}"] = target
        else:
            refused.append(answer)
        return answer

    with Rig(server_folder, postgres_options={"fsync": "on", "synchronous_commit": "on"}) as rig:
        stack = rig.stack
        writer, redirector = stack.writer(), stack.redirector()
        stack.relay()
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        with Load([writer.url], create, clients=8, headers=headers) as load:
            for _ in range(3):
                goal = len(made) + 150
                until(
                    lambda goal=goal: len(made) >= goal,
                    "150 more links are made",
                )
                rig.postgres.kill()
                rig.postgres.start()
        assert not load.unanswered, load.unanswered[:5]
        for answer in refused:
            assert answer.status == 503, answer
            assert answer.header("retry-after")

        connection_url = rig.postgres.url
        stored = int(fetch(connection_url, "SELECT count(*) FROM links"))
        assert stored >= len(made)
        with rig.valkey() as client:
            client.flushall()  # so that each is looked up where it must not be lost
        for path, target in made.items():
            seen = follow(redirector, path)
            if seen[0] == 503:  # the breaker has not closed yet
                until(lambda path=path: follow(redirector, path)[0] != 503, path)
                seen = follow(redirector, path)
            ledger.check(seen == (302, target), f"{path}: {seen}, not {target}")
        ledger.figure(f"PostgreSQL killed 3 times: {len(made)} links acknowledged, none lost")
