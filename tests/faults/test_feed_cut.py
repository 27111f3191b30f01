"""A redirector that was cut off from the change feed makes up for it, whatever was lost there."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis
from harness.ledger import Ledger
from harness.proxy import Mode
from harness.rig import Rig, api_path, make_links, new_target, waiting
from harness.servers import open_folder
from harness.stack import Part
from harness.visitor import visit
from harness.waiting import until

from shortctl.embedded import EmbeddedValkey

pytestmark = pytest.mark.fault

LINKS = 20
# Long before the local cache's life of 30 s would bring the edits by itself.
SEEN_WITHIN_S = 5


def shown(part: Part, links: dict[str, str]) -> dict[str, str]:
    answers = asyncio.run(visit(part.url, links, clients=2))
    return {path: answer.location for path, answer in answers}


def delivered(rig: Rig) -> bool:
    return waiting(rig.postgres.url) == 0


def keep(_: EmbeddedValkey) -> None:
    """Lose nothing."""


def flush(server: EmbeddedValkey) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


def trim(server: EmbeddedValkey) -> None:
    with redis.Redis.from_url(server.url) as client:
        [feed] = client.scan_iter(match="*changes", count=1000)
        client.xtrim(feed, maxlen=0, approximate=False)


def crash(server: EmbeddedValkey) -> None:
    server.kill()
    server.start()


@dataclass(frozen=True)
class Scene:
    rig: Rig
    writer: Part
    redirector: Part

    def metric(self, name: str) -> float:
        return self.redirector.metric(f"shortlinks_feed_{name}")


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with open_folder() as folder, Rig(folder) as rig:
        writer = rig.stack.writer(REDIS_URL=rig.redis.url)
        rig.stack.relay(REDIS_URL=rig.redis.url)
        yield Scene(rig, writer, rig.stack.redirector())


@pytest.mark.parametrize(("lose", "gap"), [(keep, 0), (flush, 1), (trim, 1), (crash, 1)])
@pytest.mark.parametrize("more", [False, True], ids=["then silence", "then another change"])
def test_edits_made_while_the_feed_was_cut_are_seen_when_it_is_back(
    scene: Scene, ledger: Ledger, lose: Callable[[EmbeddedValkey], None], gap: int, more: bool
) -> None:
    rig, redirector = scene.rig, scene.redirector
    with rig.stack.api(scene.writer) as api:
        links = make_links(api, LINKS)
        other = next(iter(make_links(api, 1)))
        until(lambda: delivered(rig), "all links are delivered")
        until(lambda: scene.metric("connected") == 1, "it follows the feed")
        assert shown(redirector, links) == links
        gaps = scene.metric("gaps_total")

        rig.redis_wire.set(Mode.REFUSE)
        links = {path: new_target() for path in links}
        for path, target in links.items():
            assert api.patch(api_path(path), json={"target": target}).status_code == 200
        until(lambda: delivered(rig), "all edits are delivered")
        lose(rig.redis)
        if more:
            assert api.patch(api_path(other), json={"target": new_target()}).status_code == 200
            until(lambda: delivered(rig), "the other edit is delivered")
    rig.redis_wire.set(Mode.PASS)
    until(lambda: shown(redirector, links) == links, "every edit is seen", SEEN_WITHIN_S)
    ledger.checked += LINKS
    gaps = scene.metric("gaps_total") - gaps
    assert gaps >= gap if gap else gaps == 0
