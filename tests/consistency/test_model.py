"""The real stack against a model of links: whatever happens, every redirector comes to agree.

Each change puts its number into the target, so an answer tells which version it is of. An
answer is right if it is of the newest version, or, for as long as the bound allows, of an older
one; never of one older than what the same process has shown before.
"""

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import hypothesis.strategies as st
import pytest
from harness import servers
from harness.ledger import Ledger
from harness.rig import api_path
from harness.stack import Part, Stack
from harness.visitor import Answer, Visitor
from harness.waiting import until
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

L1_TTL_S = 1.0
FED_WITHIN_S = 2.0  # a change takes milliseconds; this is for a machine that is busy with more
UNFED_WITHIN_S = L1_TTL_S + FED_WITHIN_S  # the relay is down: the local cache's life bounds it
SETTINGS = {
    "L1_TTL_S": str(L1_TTL_S),
    "L1_NEGATIVE_TTL_S": "0.5",
    "CACHE_NEGATIVE_TTL_S": "1",
    "RELAY_POLL_MS": "50",
    # Nothing is slow here, only the machine may be: no deadline of a call may stand for a fault.
    "REDIS_TIMEOUT_MS": "2000",
    "POSTGRES_TIMEOUT_MS": "5000",
    "PUBLISH_TIMEOUT_MS": "2000",
}
EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "8"))
STEPS = 40


@dataclass(frozen=True)
class State:
    """What a link's version is answered with: `expires_at` in Unix seconds."""

    answer: tuple[int, str]
    expires_at: float | None = None

    def allows(self, seen: tuple[int, str], asked: float, answered: float) -> bool:
        # Both processes read one clock. A request that spans the very instant may go either way.
        if self.expires_at is None or answered < self.expires_at:
            return seen == self.answer
        if asked >= self.expires_at:
            return seen == GONE
        return seen in (self.answer, GONE)


MISSING = (404, "")
GONE = (410, "")


@dataclass
class Link:
    """A code and every state it has had, the newest last."""

    path: str
    states: list[State] = field(default_factory=lambda: [State(MISSING)])
    target: str = ""
    deleted: bool = False
    disabled: bool = False
    expires_at: float | None = None
    floors: dict[str, int] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return len(self.states) > 1

    def next_target(self) -> str:
        self.target = f"https://example.com{self.path}/{len(self.states)}"
        return self.target

    def moved(self) -> None:
        """Note the state that the writer has just acknowledged."""
        if self.deleted:
            state = State(GONE)
        elif self.disabled:
            state = State(MISSING)
        else:
            state = State((302, self.target), self.expires_at)
        self.states.append(state)


class World:
    """The processes, kept over all examples; each example has codes of its own."""

    def __init__(self, stack: Stack, redis_url: str, ledger: Ledger) -> None:
        self.stack = stack
        self.redis_url = redis_url
        self.ledger = ledger
        self.writer = stack.writer()
        self.relay = stack.relay()
        self.redirectors = [stack.redirector(), stack.redirector()]
        self.api = stack.api(self.writer)
        self.runner = asyncio.Runner()
        self.visitors = {part.url: Visitor(part.url) for part in self.redirectors}
        self.codes = 0

    def close(self) -> None:
        self.runner.run(self._hang_up())
        self.runner.close()
        self.api.close()

    async def _hang_up(self) -> None:
        for visitor in self.visitors.values():
            visitor.close()
        await asyncio.sleep(0)

    def get(self, part: Part, path: str) -> Answer:
        return self.runner.run(self.visitors[part.url].get(path))

    def new_link(self) -> Link:
        self.codes += 1
        return Link(f"/model-{self.codes}")

    def relay_up(self) -> bool:
        return self.relay.child.running


class LinksMachine(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.links: list[Link] = [self.world.new_link() for _ in range(3)]

    def teardown(self) -> None:
        if not self.world.relay_up():
            self.world.relay.restart()

    def those(self, *, deleted: bool = False) -> list[Link]:
        return [link for link in self.links if link.exists and link.deleted is deleted]

    def missing(self) -> list[Link]:
        return [link for link in self.links if not link.exists]

    def pick(self, number: int, *, deleted: bool = False) -> Link:
        fitting = self.those(deleted=deleted)
        return fitting[number % len(fitting)]

    def done(self, link: Link, answer: httpx.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        link.moved()

    def edit(self, link: Link, **fields: object) -> None:
        self.done(link, self.world.api.patch(api_path(link.path), json=fields), 200)

    @precondition(lambda self: self.missing())
    @rule()
    def create(self) -> None:
        link = self.missing()[0]
        body = {"target": link.next_target(), "code": link.path[1:]}
        self.done(link, self.world.api.post("/api/v1/links", json=body), 201)

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9))
    def change_target(self, number: int) -> None:
        link = self.pick(number)
        self.edit(link, target=link.next_target())

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9), times=st.integers(2, 6))
    def change_target_in_a_burst(self, number: int, times: int) -> None:
        link = self.pick(number)
        for _ in range(times):
            self.edit(link, target=link.next_target())

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9))
    def delete(self, number: int) -> None:
        link = self.pick(number)
        link.deleted = True
        self.done(link, self.world.api.delete(api_path(link.path)), 204)

    @precondition(lambda self: self.those(deleted=True))
    @rule(number=st.integers(0, 9))
    def restore(self, number: int) -> None:
        link = self.pick(number, deleted=True)
        link.deleted = False
        self.done(link, self.world.api.post(f"{api_path(link.path)}:restore"), 200)

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9))
    def switch_off_or_on(self, number: int) -> None:
        link = self.pick(number)
        link.disabled = not link.disabled
        self.edit(link, enabled=not link.disabled)

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9), in_ms=st.integers(50, 700))
    def expire_soon(self, number: int, in_ms: int) -> None:
        link = self.pick(number)
        link.expires_at = round(time.time() + in_ms / 1000, 3)
        moment = datetime.fromtimestamp(link.expires_at, UTC).isoformat()
        self.edit(link, expires_at=moment)

    @precondition(lambda self: self.those())
    @rule(number=st.integers(0, 9))
    def never_expire(self, number: int) -> None:
        link = self.pick(number)
        link.expires_at = None
        self.edit(link, expires_at=None)

    @rule()
    def lose_the_cache(self) -> None:
        servers.flush(self.world.redis_url)

    @precondition(lambda self: self.world.relay_up())
    @rule(kill=st.booleans(), chance=st.integers(0, 2))
    def end_the_relay(self, kill: bool, chance: int) -> None:
        if chance == 0:  # it takes a second to come back, when most rules take a hundredth
            child = self.world.relay.child
            child.kill() if kill else child.stop()

    @precondition(lambda self: not self.world.relay_up())
    @rule()
    def start_the_relay(self) -> None:
        self.world.relay.restart()

    @rule(number=st.integers(0, 1), kill=st.booleans(), chance=st.integers(0, 3))
    def restart_a_redirector(self, number: int, kill: bool, chance: int) -> None:
        if chance:
            return
        part = self.world.redirectors[number]
        part.child.kill() if kill else part.child.stop()
        part.restart()
        self.world.visitors[part.url].close()
        for link in self.links:
            link.floors.pop(part.url, None)  # a new process has seen nothing yet

    @rule(part=st.floats(0.2, 1.1))
    def let_entries_age(self, part: float) -> None:
        time.sleep(part * L1_TTL_S)

    @invariant()
    def every_redirector_comes_to_agree(self) -> None:
        within = FED_WITHIN_S if self.world.relay_up() else UNFED_WITHIN_S
        for link in self.links:
            for part in self.world.redirectors:
                until(
                    lambda link=link, part=part: self.agrees(link, part),
                    f"{part.child.name} agrees on {link.path}: {link.states[-3:]}",
                    within,
                )

    def agrees(self, link: Link, part: Part) -> bool:
        asked = time.time()
        answer = self.world.get(part, link.path)
        answered = time.time()
        seen = (answer.status, answer.location)
        floor = link.floors.get(part.url, 0)
        newest = len(link.states) - 1
        possible = [
            number
            for number in range(floor, newest + 1)
            if link.states[number].allows(seen, asked, answered)
        ]
        self.world.ledger.check(
            bool(possible), f"{part.url}{link.path}: {seen} after {link.states[floor]}"
        )
        assert possible, f"{seen} is older than what was seen: {link.states[floor:]}"
        link.floors[part.url] = min(possible)
        return newest in possible


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(100 + 40 * EXAMPLES)
def test_redirectors_agree_with_the_model_and_never_go_back(
    server_folder: Path, database_url: str, redis_url: str, ledger: Ledger
) -> None:
    with Stack(server_folder, database_url, redis_url, settings=SETTINGS) as stack:
        world = World(stack, redis_url, ledger)
        machine = type("Machine", (LinksMachine,), {"world": world})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    suppress_health_check=list(HealthCheck),
                    # Time is part of every example: a shorter one need not fail again.
                    phases=(Phase.explicit, Phase.reuse, Phase.generate),
                    database=None,
                    print_blob=False,
                ),
            )
        finally:
            world.close()
