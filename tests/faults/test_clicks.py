"""Each answered redirect counts once while the worker, Valkey and PostgreSQL are killed.

Valkey has its append-only file, as the chart configures it: it loses nothing that it confirmed when its
process is killed. `FAULT_CLICKS=200000` makes the run longer; it must be at least 4000.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from harness.clicks import Counted, Sender, click
from harness.ledger import Ledger
from harness.rig import Rig, make_links
from harness.stack import Part
from harness.visitor import Answer, Load, Visitor
from harness.waiting import until

from shortcore.clicks.rollups import DIMENSIONS, Kind

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

CLICKS = int(os.environ.get("FAULT_CLICKS") or 20_000)
DURABLE = {"fsync": "on", "synchronous_commit": "on"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PERSISTENT = {"appendonly": "yes"}
SETTINGS = {
    "WORKER_FLUSH_MS": "50",
    "WORKER_LEASE_S": "2",
    "CLICKS_STREAM_MAX_LENGTH": "1000000",  # nothing may be trimmed before it is counted
    "CLICKS_RING_SIZE": "1000000",
    "CONNECTIONS_PER_ADDRESS_MAX": "0",
}


async def counted_by_link(url: str) -> dict[int, int]:
    connection = await asyncpg.connect(url)
    try:
        return await Counted(connection).links()
    finally:
        await connection.close()


def total(url: str) -> int:
    return sum(asyncio.run(counted_by_link(url)).values())


def dropped(redirectors: list[Part]) -> int:
    return round(
        sum(
            part.metric(f'shortlinks_clicks_dropped_total{{reason="{reason}"}}')
            for part in redirectors
            for reason in ("ring", "redis", "drain")
        )
    )


async def check_everything(url: str, clicks: dict[int, int]) -> None:
    """Check totals, rows and breakdowns: all of them have exactly these clicks."""
    connection = await asyncpg.connect(url)
    counted = Counted(connection)
    assert await counted.links() == clicks
    await counted.check_sums()
    number = sum(clicks.values())
    for kind in (Kind.LINK, Kind.DOMAIN, Kind.ALL):
        rows = await connection.fetchval(
            "SELECT sum(clicks) FROM clicks_daily WHERE kind = $1", kind
        )
        assert rows == number, kind
    everything = await counted.rollup(Kind.ALL, 0)
    for dimension in ("browser", "os", "device"):
        values = everything.breakdowns[DIMENSIONS.index(dimension)]
        assert sum(pair[0] for pair in values.values()) == number, dimension
    await connection.close()


def test_each_redirect_counts_once_while_worker_valkey_and_postgresql_are_killed(
    server_folder: Path, ledger: Ledger
) -> None:
    answered: Counter[str] = Counter()
    chance = random.Random(random.random())
    with Rig(
        server_folder, settings=SETTINGS, postgres_options=DURABLE, redis_options=PERSISTENT
    ) as rig:
        stack = rig.stack
        writer, worker = stack.writer(), stack.worker()
        stack.relay()
        redirectors = [stack.redirector(), stack.redirector()]
        with stack.api(writer) as api:
            links = make_links(api, 200)
        paths = list(links)

        async def ask(visitor: Visitor, _url: str) -> Answer:
            path = chance.choice(paths)
            answer = await visitor.get(path)
            if answer.status == 302:
                answered[path] += 1
            return answer

        def answers() -> int:
            return answered.total()

        urls = [part.url for part in redirectors]
        with Load(urls, ask, clients=8, headers={"User-Agent": AGENT}) as load:
            faults = (
                lambda: (worker.child.kill(), worker.restart()),
                lambda: (rig.redis.kill(), rig.redis.start()),
                lambda: (rig.postgres.kill(), rig.postgres.start()),
                lambda: None,
            )
            for number, fault in enumerate(faults, 1):
                until(
                    lambda number=number: answers() >= CLICKS * number // 5, "clicks", CLICKS / 40
                )
                fault()
            until(lambda: answers() >= CLICKS, "all clicks are made", CLICKS / 40)
        assert not load.unanswered, load.unanswered[:5]
        url = rig.postgres.url
        until(
            lambda: total(url) >= answered.total() - dropped(redirectors),
            "all clicks are counted",
            120,
            every_s=0.2,
            retry=(OSError, asyncpg.PostgresError),
            details=lambda: f"{total(url)} of {answered.total()} are counted",
        )
        lost = dropped(redirectors)
        ids = asyncio.run(_ids(url))
        by_link = {ids[path]: number for path, number in answered.items()}
        counted = asyncio.run(counted_by_link(url))
        assert sum(counted.values()) == answered.total() - lost
        if not lost:
            asyncio.run(check_everything(url, by_link))
        assert worker.metric("shortlinks_worker_batches_lost_total") == 0
        ledger.check(right=sum(counted.values()) == answered.total() - lost, what="clicks")
        ledger.figure(
            f"worker, Valkey and PostgreSQL killed: {answered.total()} redirects answered, "
            f"{sum(counted.values())} clicks counted, {lost} dropped"
        )


async def _ids(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT id, code FROM links")
    await connection.close()
    return {f"/{row['code']}": row["id"] for row in rows}


def test_a_worker_killed_at_random_moments_counts_each_click_once(server_folder: Path) -> None:
    chance = random.Random(random.random())
    settings = SETTINGS | {"WORKER_FLUSH_MS": "5"}
    with Rig(server_folder, settings=settings) as rig, rig.valkey() as client:
        sender = Sender(client, rig.stack._prefix)
        workers = [rig.stack.worker(), rig.stack.worker()]
        for _ in range(8):
            victim = chance.choice(workers)
            for _ in range(chance.randrange(20, 60)):
                sender.send([click(chance.randrange(200)) for _ in range(50)])
            victim.child.kill()
            for _ in range(10):
                sender.send([click(chance.randrange(200)) for _ in range(50)])
            victim.restart()
        url = rig.postgres.url
        until(lambda: total(url) >= sender.sent.total(), "all clicks are counted", 120, every_s=0.1)
        assert asyncio.run(counted_by_link(url)) == sender.sent
        for part in workers:
            part.child.stop(signal.SIGTERM)
            assert part.child.exit_code == 0
        assert asyncio.run(counted_by_link(url)) == sender.sent


def test_postgresql_killed_at_random_moments_counts_each_click_once(server_folder: Path) -> None:
    chance = random.Random(random.random())
    settings = SETTINGS | {"WORKER_FLUSH_MS": "5"}
    with (
        Rig(server_folder, settings=settings, postgres_options=DURABLE) as rig,
        rig.valkey() as client,
    ):
        sender = Sender(client, rig.stack._prefix)
        worker = rig.stack.worker()
        for _ in range(4):
            for _ in range(chance.randrange(20, 60)):
                sender.send([click(chance.randrange(200)) for _ in range(50)])
            rig.postgres.kill()
            sender.send([click(chance.randrange(200)) for _ in range(50)])
            rig.postgres.start()
        url = rig.postgres.url
        until(lambda: total(url) >= sender.sent.total(), "all clicks are counted", 120, every_s=0.1)
        assert asyncio.run(counted_by_link(url)) == sender.sent
        assert worker.child.running
