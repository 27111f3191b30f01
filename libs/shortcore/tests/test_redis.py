import asyncio
import re

import pytest
import redis.asyncio as aredis
from harness.stopwatch import Stopwatch
from redis.asyncio.sentinel import SentinelConnectionPool

from shortcore.errors import ConfigurationError
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Getter, open_redis, servers_of
from shortctl.embedded import EmbeddedValkey


def opened(url, pool_size=4, timeout_ms=50):
    return open_redis(url, timeout_ms=timeout_ms, pool_size=pool_size, application="test")


def options(client):
    return client.connection_pool.connection_kwargs


@pytest.mark.parametrize(
    ("url", "host", "port", "db"),
    [
        ("redis://cache", "cache", 6379, 0),
        ("redis://cache:7000/3", "cache", 7000, 3),
        ("redis://[::1]:7000", "::1", 7000, 0),
        ("redis://10.0.0.1/", "10.0.0.1", 6379, 0),
    ],
)
def test_a_url_of_one_server_gives_its_address(url, host, port, db):
    found = options(opened(url))
    assert (found["host"], found["port"], found["db"]) == (host, port, db)


def test_credentials_are_percent_decoded():
    found = options(opened("redis://us%40er:p%2Fw%3A%40@cache"))
    assert (found["username"], found["password"]) == ("us@er", "p/w:@")


def test_a_password_without_a_user_belongs_to_the_default_user():
    found = options(opened("redis://:pw@cache"))
    assert (found["username"], found["password"]) == (None, "pw")


def test_rediss_is_tls_with_an_optional_certificate_authority():
    client = opened("rediss://cache?ca=/etc/ca.pem")
    assert client.connection_pool.connection_class is aredis.SSLConnection
    assert options(client)["ssl_ca_certs"] == "/etc/ca.pem"


def test_every_wait_has_the_deadline_and_nothing_is_retried():
    found = options(opened("redis://cache", timeout_ms=50))
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (0.05, 0.05)
    assert found["retry"].get_retries() == 0


@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+sentinel"])
def test_sentinels_are_asked_for_the_named_primary(scheme):
    client = opened(f"{scheme}://u:p@a:1,b/primary/2?sentinel_username=su&sentinel_password=sp")
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "primary"
    assert (options(client)["db"], options(client)["password"]) == (2, "p")
    sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in sentinels] == [("a", 1), ("b", 26379)]
    assert sentinels[0]["password"] == "sp"
    assert sentinels[0]["socket_timeout"] == 0.05
    assert issubclass(pool.connection_class, aredis.SSLConnection) == (scheme[:6] == "rediss")


def test_a_cluster_starts_from_any_of_its_nodes():
    client = opened("redis+cluster://:p@a:1,b")
    nodes = {(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()}
    assert nodes == {("a", 1), ("b", 6379)}


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://cache", "scheme 'http'"),
        ("redis+proxy://cache", "scheme 'redis+proxy'"),
        ("cache:6379", "scheme 'cache'"),
        ("redis://a,b", "several hosts"),
        ("redis://cache:port", "is not host:port"),
        ("redis://", "is not host:port"),
        ("redis://cache/main", "is not a database number"),
        ("redis+sentinel://a:1,b:2", "name of the master"),
        ("redis+sentinel://a/primary/x", "is not a database number"),
    ],
)
def test_an_invalid_url_is_one_sentence(url, fault):
    with pytest.raises(ConfigurationError, match=re.escape(fault)) as caught:
        opened(url)
    assert "\n" not in str(caught.value)


async def test_a_burst_beyond_the_pool_waits_its_turn(redis_url):
    client = opened(redis_url, pool_size=2, timeout_ms=2000)
    assert all(await asyncio.gather(*(client.ping() for _ in range(200))))
    await client.aclose()


async def test_a_server_that_hangs_is_given_up_at_one_deadline(redis_url):
    async def mute(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    client = opened(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_ms=80)
    with Stopwatch() as took, pytest.raises(REDIS_UNAVAILABLE_ERRORS):
        await client.get("a")
    assert took.seconds < 0.3
    await client.aclose()
    server.close()
    await server.wait_closed()


async def test_a_restarted_server_has_another_identity(server_folder):
    valkey = EmbeddedValkey(server_folder / "valkey")
    valkey.start()
    client = opened(valkey.url, timeout_ms=2000)
    try:
        first = await servers_of(client)
        assert await servers_of(client) == first
        valkey.kill()
        valkey.start()
        await client.connection_pool.disconnect()
        assert await servers_of(client) != first
    finally:
        await client.aclose()
        valkey.stop()


async def test_a_reading_connection_leaves_a_primary_that_was_replaced(server_folder):
    servers = {name: EmbeddedValkey(server_folder / name) for name in ("old", "new")}
    primary = "old"

    async def discover(_name):
        return "127.0.0.1", servers[primary].port

    client = opened("redis+sentinel://127.0.0.1:1/links", timeout_ms=1000)
    # Only the reply of Sentinel is simulated: a real failover would also close the old connections.
    client.connection_pool.sentinel_manager.discover_master = discover
    getter = Getter(client)
    try:
        for name, server in servers.items():
            server.start()
            async with aredis.Redis.from_url(server.url) as direct:
                await direct.set("name", name)
        assert await getter.mget(["name"]) == [b"old"]
        primary = "new"
        assert await getter.mget(["name"]) == [b"old"], "nobody was told yet"
        assert await client.get("name") == b"new"
        assert await getter.mget(["name"]) == [b"new"]
    finally:
        await getter.close()
        await client.aclose()
        for server in servers.values():
            if server.running:
                server.stop()
