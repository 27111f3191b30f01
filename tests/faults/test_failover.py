"""A Redis failover that loses what the primary had acknowledged, under the whole stack."""

import asyncio
from pathlib import Path

import pytest
import redis
from harness.ledger import Ledger
from harness.rig import api_path, make_links, new_target, waiting
from harness.sentinel import SentinelGroup
from harness.stack import Part, Stack
from harness.visitor import visit
from harness.waiting import until

pytestmark = [pytest.mark.fault, pytest.mark.slow]

LINKS = 50
REPUBLISHED_WITHIN_S = 15


def shown(part: Part, links: dict[str, str]) -> dict[str, str]:
    answers = asyncio.run(visit(part.url, links, clients=2))
    return {path: answer.location for path, answer in answers}


def test_edits_that_a_failover_lost_in_redis_are_brought_there_again(
    server_folder: Path, database_url: str, ledger: Ledger
) -> None:
    with (
        SentinelGroup(server_folder) as group,
        Stack(server_folder, database_url, group.url) as stack,
    ):
        writer, old_one = stack.writer(), stack.redirector()
        relay = stack.relay()
        with stack.api(writer) as api:
            links = make_links(api, LINKS)
            until(lambda: delivered(database_url), "all links are delivered")
            with redis.Redis.from_url(group.primary.url) as primary:
                assert primary.wait(1, 2000) == 1
            # The replica is away, so nobody else has what the primary takes from here on.
            with redis.Redis.from_url(group.replica.url) as replica:
                replica.save()
            group.replica.kill()
            old = dict(links)
            links = {path: new_target() for path in links}
            for path, target in links.items():
                assert api.patch(api_path(path), json={"target": target}).status_code == 200
            until(lambda: delivered(database_url), "all edits are delivered")
        until(lambda: shown(old_one, links) == links, "every edit is seen")
        relay.child.kill()  # so that it is the redirector's own memory that is tried first
        port = group.primary.port
        group.primary.kill()
        group.replica.start()
        group.wait_failed_over(port)
        with redis.Redis.from_url(group.replica.url) as promoted:
            stale = [promoted.get(key) for key in promoted.scan_iter(match="*l:*", count=1000)]
        assert any(target.encode() in record for record in stale for target in old.values()), (
            "the failover lost nothing: there is nothing to be made up for"
        )

        # Who has seen the edits never goes back, though Redis has. (What a redirector finds out of
        # date there it renews, so a third of the links is left to the relay.)
        paths = list(links)
        asked, unseen, left = paths[::3], paths[1::3], paths[2::3]
        until(lambda: old_one.metric("shortlinks_feed_gaps_total") > 0, "the loss is seen")
        for path, target in shown(old_one, dict.fromkeys(asked, "")).items():
            ledger.check(target == links[path], f"{path}: {target}, not {links[path]}")

        # Who starts now has seen nothing: while no relay speaks it asks PostgreSQL, too.
        new_one = stack.redirector(L1_TTL_S="0.2")
        for path, target in shown(new_one, dict.fromkeys(unseen, "")).items():
            ledger.check(target == links[path], f"{path}: {target}, not {links[path]}")

        with redis.Redis.from_url(group.replica.url) as promoted:
            assert renewed(promoted, links, left) == 0, "somebody else renewed what was left"
            relay.restart()
            until(
                lambda: renewed(promoted, links, left) == len(left),
                "all is in Redis again",
                REPUBLISHED_WITHIN_S,
            )


def renewed(client: "redis.Redis", links: dict[str, str], paths: list[str]) -> int:
    """Return of how many `paths` the newest target stands in Redis."""
    records = [client.get(key) or b"" for key in client.scan_iter(match="*l:*", count=1000)]
    return sum(any(links[path].encode() in record for record in records) for path in paths)


def delivered(url: str) -> bool:
    return waiting(url) == 0
