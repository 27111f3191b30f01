"""A visit limit is exact over processes, and closed while nobody can count."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.ledger import Ledger
from harness.rig import Rig, make_links
from harness.servers import open_folder
from harness.visitor import Visitor
from harness.waiting import until

pytestmark = pytest.mark.fault

LIMIT = 100
CLIENTS = 16
EACH = 12


@pytest.fixture
def rig() -> Iterator[Rig]:
    with open_folder() as folder, Rig(folder) as rig:
        yield rig


async def visit_all(urls: list[str], path: str) -> list[tuple[int, str]]:
    async def client(url: str) -> list[tuple[int, str]]:
        async with Visitor(url) as visitor:
            answers = [await visitor.get(path) for _ in range(EACH)]
            return [(answer.status, answer.location) for answer in answers]

    clients = (client(urls[number % len(urls)]) for number in range(CLIENTS))
    return [answer for answers in await asyncio.gather(*clients) for answer in answers]


def test_100_visits_are_100_redirects_over_three_processes_and_none_without_postgresql(
    rig: Rig, ledger: Ledger
) -> None:
    writer = rig.stack.writer()
    rig.stack.relay()
    urls = [rig.stack.redirector().url for _ in range(3)]
    with rig.stack.api(writer) as api:
        [(path, target)] = make_links(api, 1, max_visits=LIMIT).items()
        [(other, other_target)] = make_links(api, 1, max_visits=LIMIT).items()

    counted = Counter(asyncio.run(visit_all(urls, path)))
    ledger.check(counted == {(302, target): LIMIT, (410, ""): CLIENTS * EACH - LIMIT}, str(counted))
    ledger.checked += CLIENTS * EACH - 1

    async def one(url: str) -> tuple[int, str]:
        async with Visitor(url) as visitor:
            answer = await visitor.get(other)
            return answer.status, answer.location or answer.header("retry-after")

    for url in urls:
        assert asyncio.run(one(url)) == (302, other_target)
    rig.postgres.stop()
    for url in urls:
        seen = asyncio.run(one(url))
        ledger.check(seen == (503, "1"), f"a visit that nobody could count: {seen}")
    rig.postgres.start()
    for url in urls:
        until(lambda url=url: asyncio.run(one(url)) == (302, other_target), "it is counted again")
