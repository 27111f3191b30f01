"""A process whose background task crashed ends, and is healthy while its servers are down."""

import http.client
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness.proxy import Mode, Proxy
from harness.stack import Part, Stack
from harness.tables import add_links
from harness.waiting import until

LINKS = {"known": {"target": "https://known.example/", "custom": True}}
CRASH = """
import asyncio, importlib, pathlib
module, _, name = "{method}".rpartition(".")
module, _, owner = module.rpartition(".")
holder = getattr(importlib.import_module(module), owner)
real = getattr(holder, name)
async def crashing(self, *arguments, **options):
    if pathlib.Path("{trigger}").exists():
        raise KeyError("injected")
    return await real(self, *arguments, **options)
setattr(holder, name, crashing)
"""


def crash(stack: Stack, role: str, method: str, task: str, answering) -> Part:
    """Start a part, make one of its tasks crash, and see it end in order."""
    trigger = stack.folder / "crash"
    code = CRASH.format(method=method, trigger=trigger)
    # Long enough for the questions below, also where the machine is busy.
    part = stack.patched(role, code, DRAIN_DELAY_MS="60000")
    sample = f'shortlinks_background_task_failures_total{{task="{task}"}}'
    assert part.metric(sample) == 0
    assert sample in part.ask("/metrics")[1]
    assert answering(part)
    trigger.touch()
    assert answering(part)  # clicks crash at the next one
    until(lambda: part.ask("/readyz")[0] == 503, "the drain has begun")
    assert part.metric(sample) == 1
    assert '"background tasks":{"ok":false' in part.ask("/health")[1]
    assert answering(part)  # until the end of the drain
    for number in (signal.SIGTERM, signal.SIGINT):  # the second one skips the rest of the delay
        part.child.send(number)
    until(lambda: part.child.exit_code is not None, "the process has ended")
    assert part.child.exit_code == 1
    log = part.child.tail(40)
    assert '"level":"critical"' in log.replace(" ", "")
    assert "injected" in log
    trigger.unlink()
    part.restart()
    assert answering(part)
    assert part.metric(sample) == 0
    return part


def answers(path: str, *statuses: int):
    def answering(part: Part) -> bool:
        connection = http.client.HTTPConnection(urlsplit(part.url).netloc, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().status in statuses
        finally:
            connection.close()

    return answering


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("redirector.lookup.invalidation.Invalidation._step", "change feed"),
        ("redirector.clicks.stream.ClickStream._send", "clicks"),
    ],
)
def test_a_redirector_whose_task_crashed_ends_and_is_started_again(
    stack: Stack, database_url: str, method: str, task: str
) -> None:
    add_links(database_url, LINKS)
    crash(stack, "redirector", method, task, answers("/known", 302))


def test_a_writer_whose_task_crashed_ends_and_is_started_again(stack: Stack) -> None:
    crash(
        stack, "writer", "writer.domains.cache.DomainCache.refresh", "domains",
        answers("/api/openapi.json", 200),
    )  # fmt: skip


def test_a_relay_whose_task_crashed_ends_and_is_started_again(stack: Stack) -> None:
    crash(stack, "relay", "writer.relay.delivery.Delivery.deliver", "delivery", lambda _: True)


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.GARBAGE, Mode.BLACK_HOLE])
def test_servers_that_are_down_or_answer_nonsense_end_no_process(
    server_folder: Path, database_url: str, redis_url: str, mode: Mode
) -> None:
    add_links(database_url, LINKS)
    with (
        Proxy(database_url) as postgres,
        Proxy(redis_url) as redis,
        Stack(server_folder, postgres.url, redis.url) as stack,
    ):
        parts = [stack.redirector(), stack.writer(), stack.relay()]
        redirector = parts[0]
        assert answers("/known", 302)(redirector)
        for wire in (redis, postgres):
            wire.set(mode)
            until(
                lambda: '"ok":false' in redirector.ask("/health")[1], "the redirector has noticed"
            )
            time.sleep(4)  # longer than every retry interval of the tasks but those of a minute
            assert answers("/known", 302)(redirector)
        for part in parts:
            assert part.child.running, part.child.tail(60)
            assert '"background tasks":{"ok":true' in part.ask("/health")[1], part.child.tail(60)
        postgres.set(Mode.PASS)
        redis.set(Mode.PASS)
        until(
            lambda: '"ok":false' not in redirector.ask("/health")[1], "the redirector has recovered"
        )
