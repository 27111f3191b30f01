"""The worker over a Cluster, and over a failover of Sentinel: each click that Redis kept counts once."""

import asyncio
import random
from pathlib import Path

import asyncpg
import pytest
import redis
from harness.clicks import Counted, Sender, click, open_worker
from harness.cluster import Cluster
from harness.sentinel import SentinelGroup
from harness.waiting import until_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]


async def wait_for(counted: Counted, sender: Sender) -> None:
    async def all_counted() -> bool:
        return await counted.total() >= sender.sent.total()

    await until_async(all_counted, "all clicks are counted", 60)
    assert await counted.links() == sender.sent
    await counted.check_sums()


async def test_a_worker_counts_the_clicks_of_a_cluster(
    server_folder: Path, database_url: str, redis_prefix: str
) -> None:
    connection = await asyncpg.connect(database_url)
    counted = Counted(connection)
    with (
        Cluster(server_folder) as cluster,
        redis.RedisCluster.from_url(cluster_url(cluster)) as client,
    ):
        sender = Sender(client, redis_prefix)  # type: ignore[arg-type]  # it only adds entries
        async with open_worker(
            database_url, cluster.url, redis_prefix, worker_stream_retention_s=0
        ) as worker:
            await worker.start()
            for _ in range(20):
                sender.send([click(random.randrange(40)) for _ in range(20)])
            await wait_for(counted, sender)
            assert worker.counts.lost == worker.counts.repeated == 0
            assert worker.stopping.errors["redis"] == 0
    await connection.close()


async def test_a_failover_of_redis_counts_each_click_once(
    server_folder: Path, database_url: str, redis_prefix: str
) -> None:
    connection = await asyncpg.connect(database_url)
    counted = Counted(connection)
    with SentinelGroup(server_folder) as group:
        async with open_worker(database_url, group.url, redis_prefix) as worker:
            await worker.start()
            with redis.Redis.from_url(group.primary.url) as primary:
                sender = Sender(primary, redis_prefix)
                for _ in range(20):
                    sender.send([click(random.randrange(40)) for _ in range(20)])
                await wait_for(counted, sender)
                for _ in range(20):
                    sender.send([click(random.randrange(40)) for _ in range(20)])
                assert primary.wait(1, 5000) == 1
            old = group.primary.port
            group.primary.kill()
            await asyncio.to_thread(group.wait_failed_over, old)
            with redis.Redis.from_url(group.replica.url) as promoted:
                sender.client = promoted
                for _ in range(20):
                    sender.send([click(random.randrange(40)) for _ in range(20)])
                await wait_for(counted, sender)
            assert worker.counts.lost == 0
            assert worker.counts.repeated > 0  # the stream was read from its start
    await connection.close()


def cluster_url(cluster: Cluster) -> str:
    """Return a URL for redis-py's own client."""
    return cluster.url.replace("redis+cluster", "redis").split(",")[0]
