"""A real streaming replica that lags, stops, or is all that is left."""

import asyncio
from collections.abc import Iterator

import pytest
from harness.ledger import Ledger
from harness.proxy import Mode
from harness.replica import make_replica, pause_replay, resume_replay, wait_caught_up
from harness.rig import Rig, api_path, make_links, new_target
from harness.stack import Part
from harness.visitor import Answer, visit
from harness.waiting import until

from shortctl.embedded import EmbeddedPostgres

pytestmark = pytest.mark.fault


@pytest.fixture
def replica(rig: Rig) -> Iterator[EmbeddedPostgres]:
    replica = make_replica(rig.postgres, rig.folder / "replica")
    yield replica
    replica.kill()


def get(part: Part, *paths: str) -> list[Answer]:
    answers = dict(asyncio.run(visit(part.url, paths, clients=2)))
    return [answers[path] for path in paths]


def lookups(part: Part, layer: str, result: str) -> float:
    return part.metric(f'shortlinks_lookup_total{{layer="{layer}",result="{result}"}}')


def all_right(part: Part, links: dict[str, str], ledger: Ledger) -> None:
    for (path, target), answer in zip(links.items(), get(part, *links), strict=True):
        ledger.check(
            (answer.status, answer.location) == (302, target),
            f"{path}: {answer.status} {answer.location}, not {target}",
        )


def test_a_link_just_created_is_found_though_the_replica_lags(
    rig: Rig, replica: EmbeddedPostgres, ledger: Ledger
) -> None:
    writer = rig.stack.writer(REDIS_URL=rig.redis.url)
    redirector = rig.stack.redirector(POSTGRES_READ_URL=replica.url)
    rig.redis_wire.set(Mode.REFUSE)  # or Redis would know the link
    wait_caught_up(rig.postgres, replica)
    pause_replay(replica)
    with rig.stack.api(writer) as api:
        links = make_links(api, 20)
    all_right(redirector, links, ledger)
    assert lookups(redirector, "replica", "miss") == len(links)
    assert lookups(redirector, "postgres", "hit") == len(links)
    resume_replay(replica)


def test_an_edit_once_heard_of_is_not_undone_by_a_replica_that_lags(
    rig: Rig, replica: EmbeddedPostgres, ledger: Ledger
) -> None:
    writer = rig.stack.writer()
    rig.stack.relay()
    redirector = rig.stack.redirector(POSTGRES_READ_URL=replica.url)
    with rig.stack.api(writer) as api:
        links = make_links(api, 10)
        all_right(redirector, links, ledger)
        wait_caught_up(rig.postgres, replica)
        pause_replay(replica)
        heard = redirector.metric("shortlinks_feed_changes_total")
        for path in links:
            links[path] = new_target()
            assert api.patch(api_path(path), json={"target": links[path]}).status_code == 200
        until(
            lambda: redirector.metric("shortlinks_feed_changes_total") >= heard + len(links),
            "the redirector hears of every edit",
        )
    with rig.valkey() as client:
        client.flushall()
    all_right(redirector, links, ledger)
    resume_replay(replica)


def test_without_its_replica_a_redirector_asks_the_primary(
    rig: Rig, replica: EmbeddedPostgres, ledger: Ledger
) -> None:
    writer = rig.stack.writer(REDIS_URL=rig.redis.url)
    redirector = rig.stack.redirector(POSTGRES_READ_URL=replica.url)
    rig.redis_wire.set(Mode.REFUSE)
    with rig.stack.api(writer) as api:
        links = make_links(api, 20)
    replica.kill()
    all_right(redirector, links, ledger)
    assert get(redirector, "/nobody")[0].status == 404


def test_without_the_primary_a_redirector_finds_links_on_the_replica(
    rig: Rig, replica: EmbeddedPostgres, ledger: Ledger
) -> None:
    writer = rig.stack.writer(REDIS_URL=rig.redis.url)
    redirector = rig.stack.redirector(POSTGRES_READ_URL=replica.url)
    rig.redis_wire.set(Mode.REFUSE)
    with rig.stack.api(writer) as api:
        links = make_links(api, 20)
    wait_caught_up(rig.postgres, replica)
    rig.postgres.kill()
    all_right(redirector, links, ledger)
    # It may be on the primary: that cannot be known now.
    [answer] = get(redirector, "/nobody")
    assert answer.status == 503
    assert answer.header("retry-after")
