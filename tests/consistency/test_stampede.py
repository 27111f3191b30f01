"""A hot link that expires from a cache is looked up once, however many want it at that moment."""

import asyncio
from pathlib import Path

import pytest
from harness import servers
from harness.ledger import Ledger
from harness.rig import make_links
from harness.stack import Part, Stack
from harness.visitor import Visitor
from harness.waiting import until_async

VISITORS = 1000
TTL_S = 2.0
NEGATIVES = 'shortlinks_lookup_total{layer="redis",result="negative"}'


def lookups(part: Part) -> dict[str, float]:
    return {
        layer: sum(
            part.metric(f'shortlinks_lookup_total{{layer="{layer}",result="{result}"}}')
            for result in ("hit", "miss", "negative", "error", "outdated")
        )
        for layer in ("redis", "postgres")
    }


@pytest.mark.slow
async def test_1000_concurrent_visitors_of_an_expired_hot_link_make_one_lookup(
    server_folder: Path, database_url: str, redis_url: str, ledger: Ledger
) -> None:
    with Stack(server_folder, database_url, redis_url) as stack:
        writer, relay = stack.writer(), stack.relay()
        # Nothing is renewed ahead of its end, so that the end itself is met.
        part = stack.redirector(L1_TTL_S=str(TTL_S), L1_REFRESH_AHEAD="1", L1_NEGATIVE_TTL_S="0.01")
        with stack.api(writer) as api:
            [(path, target)] = make_links(api, 1).items()
        crowd = [Visitor(part.url) for _ in range(VISITORS)]
        for visitor in crowd:
            await visitor.connect()

        # Redis counts once the relay has been heard: its negative is then believed.
        async def believed() -> bool:
            assert (await crowd[0].get("/nobody")).status == 404
            return part.metric(NEGATIVES) > 0

        await until_async(believed, "a negative entry of Redis counts")

        async def rush() -> dict[str, float]:
            before = lookups(part)
            for answer in await asyncio.gather(*(visitor.get(path) for visitor in crowd)):
                ledger.check((answer.status, answer.location) == (302, target), answer)
            after = lookups(part)
            return {layer: after[layer] - before[layer] for layer in after}

        assert await rush() == {"redis": 1, "postgres": 0}
        await asyncio.sleep(TTL_S + 0.05)  # the life of the entry
        assert await rush() == {"redis": 1, "postgres": 0}
        await asyncio.sleep(TTL_S + 0.05)
        await asyncio.to_thread(relay.child.stop)  # or it would fill Redis again
        await asyncio.to_thread(servers.flush, redis_url)
        assert await rush() == {"redis": 1, "postgres": 1}
        for visitor in crowd:
            visitor.close()
