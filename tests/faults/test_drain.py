"""Restarts behind a round-robin, under load: no request fails."""

import asyncio
import itertools
import random
import socket
from urllib.parse import urlsplit

import pytest
from harness.balancer import Balancer
from harness.ledger import Ledger
from harness.rig import Rig, exit_code, make_links
from harness.stack import Part
from harness.visitor import Answer, Load, Visitor, visit

pytestmark = [pytest.mark.fault, pytest.mark.slow]

DRAIN = {"DRAIN_DELAY_MS": "700"}
CLIENTS = 8


def restart_each(parts: list[Part], load: Load) -> None:
    for part in parts:
        load.wait_for(300)
        assert part.child.stop(timeout_s=20), f"{part.child.name} did not end by itself"
        assert exit_code(part) == 0
        load.wait_for(100)
        part.restart()
    load.wait_for(300)


def test_restarting_redirectors_one_by_one_fails_no_request(rig: Rig, ledger: Ledger) -> None:
    writer = rig.stack.writer()
    redirectors = [rig.stack.redirector(**DRAIN) for _ in range(2)]
    with rig.stack.api(writer) as api:
        links = make_links(api, 200)
    paths = list(links)

    async def ask(visitor: Visitor, _url: str) -> Answer:
        path = random.choice(paths)
        answer = await visitor.get(path)
        ledger.check(
            (answer.status, answer.location) == (302, links[path]),
            f"{path}: {answer.status} {answer.location}",
        )
        return answer

    with (
        Balancer(redirectors) as balancer,
        Load([balancer.url], ask, clients=CLIENTS, pause_s=0.002) as load,
    ):
        restart_each(redirectors, load)
    assert not load.unanswered, (len(load.unanswered), load.unanswered[:5])
    ledger.figure(f"two redirectors restarted under load: {load.answers:,} requests, 0 failed")


def test_restarting_writers_one_by_one_fails_no_create_and_loses_none(
    rig: Rig, ledger: Ledger
) -> None:
    writers = [rig.stack.writer(**DRAIN) for _ in range(2)]
    redirector = rig.stack.redirector()
    numbers = itertools.count()
    made: dict[str, str] = {}

    async def ask(visitor: Visitor, _url: str) -> Answer:
        target = f"https://example.com/{next(numbers)}"
        answer = await visitor.request("POST", "/api/v1/links", {"target": target})
        assert answer.status == 201, (answer.status, answer.body)
        made[f"/{answer.json()['code']}"] = target
        return answer

    headers = {"Authorization": f"Bearer {rig.stack.api_key}"}
    with (
        Balancer(writers) as balancer,
        Load([balancer.url], ask, clients=CLIENTS, pause_s=0.01, headers=headers) as load,
    ):
        restart_each(writers, load)
    assert not load.unanswered, (len(load.unanswered), load.unanswered[:5])
    assert len(made) == load.answers
    for path, answer in asyncio.run(visit(redirector.url, made)):
        ledger.check(
            (answer.status, answer.location) == (302, made[path]), f"{path}: {answer.status}"
        )
    ledger.figure(f"two writers restarted under load: {len(made):,} creates, 0 failed, 0 lost")


def test_a_connection_at_rest_does_not_hold_up_the_end(rig: Rig) -> None:
    part = rig.stack.redirector(DRAIN_DELAY_MS="100", DRAIN_TIMEOUT_MS="5000")
    address = urlsplit(part.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as resting:
        resting.sendall(b"GET /robots.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"Allow: /\n"):
            answer += resting.recv(65536)
        assert part.child.stop(timeout_s=3), "it waited for a connection that asks nothing"
        assert exit_code(part) == 0
        assert resting.recv(65536) == b""
