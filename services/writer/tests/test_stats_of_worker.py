"""Statistics in the API of clicks that a real worker has counted."""

import asyncpg
import pytest
import redis
from harness.clicks import Counted, Sender, click, noon, open_worker
from harness.waiting import until_async

from shortcore.clicks.wire import Flag

HOUR_MS = 3_600_000
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"


@pytest.fixture
async def counted(database_url):
    connection = await asyncpg.connect(database_url)
    yield Counted(connection)
    await connection.close()


async def test_the_api_answers_with_what_the_worker_counted(
    api, counted, database_url, redis_url, redis_prefix
):
    before = await api.create(code="a", tags=["old"])
    await api.create(code="b")
    ids = {code: await api.fetch("SELECT id FROM links WHERE code = $1", code) for code in "ab"}
    at = noon() - 24 * HOUR_MS

    async with open_worker(database_url, redis_url, redis_prefix) as worker:
        await worker.start()
        with redis.Redis.from_url(redis_url) as client:
            sender = Sender(client, redis_prefix)
            sender.send(
                [
                    click(ids["a"], at, country="DE", visitor=b"visitor1", agent=CHROME),
                    click(ids["a"], at, country="DE", visitor=b"visitor1", agent=CHROME),
                    click(ids["a"], at - HOUR_MS, country="FR", visitor=b"visitor2", agent=CHROME),
                    click(ids["a"], at, Flag.BOT, agent="Googlebot/2.1"),
                    click(ids["b"], at, visitor=b"visitor2", agent=CHROME),
                ],
                copies=2,  # as after a timeout of Redis
            )

            async def all_counted():
                return await counted.total() >= 5

            await until_async(all_counted, "all clicks are counted")

    async def get(path, **params):
        answer = await api.client.get(f"/api/v1{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    link = await get("/links/go.test/a")
    assert link == before | {"clicks": 4, "visits": 3}
    listed = await get("/links", sort="-visits")
    assert [(each["code"], each["clicks"], each["visits"]) for each in listed["items"]] == [
        ("a", 4, 3),
        ("b", 1, 1),
    ]
    # A click counts for the tags that the link had then.
    await api.client.patch("/api/v1/links/go.test/a", json={"tags": ["new"]})
    for path, wanted in (
        ("/links/go.test/a", (4, 3, 2)),
        ("/links/go.test/b", (1, 1, 1)),
        ("/domains/go.test", (5, 4, 2)),
        ("/tags/old", (4, 3, 2)),
        ("/tags/new", (0, 0, 0)),
        ("", (5, 4, 2)),
    ):
        stats = await get(f"{path}/stats")
        assert (stats["clicks"], stats["visits"], stats["visitors"]) == wanted, path
    hours = (await get("/links/go.test/a/stats", interval="hour"))["series"]
    busy = [(point["at"][11:16], point["clicks"]) for point in hours if point["clicks"]]
    assert busy == [("11:00", 1), ("12:00", 3)]
    countries = (await get("/links/go.test/a/stats/country"))["items"]
    assert [(each["value"], each["clicks"], each["visits"]) for each in countries] == [
        ("DE", 2, 2),
        ("FR", 1, 1),
        (None, 1, 0),
    ]
    bots = (await get("/stats/bot"))["items"]
    assert [each["clicks"] for each in bots] == [4, 1]
    assert (bots[0]["value"], bots[1]["visits"]) == (None, 0)
    top = (await get("/stats/links"))["items"]
    assert [(each["code"], each["visits"]) for each in top] == [("a", 3), ("b", 1)]
