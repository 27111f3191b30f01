"""Clients for Redis or Valkey: one server, Sentinel, or Cluster, chosen by the URL.

redis-py's defaults suit a batch job: with timeouts of 5 s and three retries, one GET from a
black-holed server takes most of a minute. Here a call fails after `timeout_ms` and is not retried:
the caller can ask the next layer instead.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis.asyncio as aredis
import redis.exceptions
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from shortcore.errors import ConfigurationError

Client: TypeAlias = "aredis.Redis | aredis.RedisCluster"

REDIS_UNAVAILABLE_ERRORS = (redis.exceptions.RedisError, OSError, TimeoutError)
"""What a call raises while Redis is down, full or read-only, or if its reply makes no sense."""


def open_redis(url: str, *, timeout_ms: int, pool_size: int, application: str) -> Client:
    """Return a client that connects at the first use.

    `timeout_ms` bounds the connection attempt and each reply. A client that reads the change feed
    needs one longer than its blocking read. Raises ConfigurationError for an invalid URL.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "client_name": application,
        "protocol": 3,
    }
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss"} or kind not in {"", "sentinel", "cluster"}:
        raise ConfigurationError(
            f"SHORTLINKS_REDIS_URL: the scheme {parts.scheme!r} is not one of redis, rediss, "
            "redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
        )
    if scheme == "rediss":
        options |= {"ssl": True, "ssl_ca_certs": parse_qs(parts.query).get("ca", [None])[0]}
    if kind == "cluster":
        return _cluster(parts, options, pool_size)
    options["retry"] = Retry(NoBackoff(), 0)
    if kind == "sentinel":
        return _sentinel(parts, options, pool_size)
    (host, port), *more = _addresses(parts, 6379)
    if more:
        raise ConfigurationError("SHORTLINKS_REDIS_URL: several hosts need +sentinel or +cluster")
    database = _database(parts.path.strip("/"))
    if scheme == "rediss":
        options["connection_class"] = aredis.SSLConnection
        del options["ssl"]
    pool = aredis.BlockingConnectionPool(
        host=host,
        port=port,
        db=database,
        max_connections=pool_size,
        timeout=timeout_ms / 1000,
        **options,
    )
    return aredis.Redis.from_pool(pool)


class Getter:
    """Sends MGETs over its own connections, one for each concurrent call; not for Cluster.

    redis-py takes 100 µs per call to manage the connection, retries and metrics: twice as much as
    the rest of a batch. The caller sets the deadline. A cancelled call leaves a closed connection,
    which the next call opens again.
    """

    def __init__(self, client: aredis.Redis) -> None:
        self._pool = client.connection_pool
        self._idle: list[Any] = []

    async def mget(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the value of each name, in order; raises REDIS_UNAVAILABLE_ERRORS."""
        connection = self._idle.pop() if self._idle else self._open()
        used = connection.is_connected
        primary = getattr(self._pool, "master_address", None)
        if used and primary not in (None, (connection.host, connection.port)):
            await connection.disconnect(nowait=True)  # Sentinel has named another primary since
        try:
            try:
                return await _mget(connection, names)
            except redis.exceptions.ConnectionError:
                if not used:
                    raise
                # The server closed it while it was idle: a restart, a failover, its idle timeout.
                return await _mget(connection, names)
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close every connection that is not in use."""
        while self._idle:
            await self._idle.pop().disconnect()

    def _open(self) -> Any:
        connection = self._pool.make_connection()
        connection.socket_timeout = None  # the caller's deadline covers all steps
        return connection


async def _mget(connection: Any, names: Sequence[str]) -> list[bytes | None]:
    # The connection's public methods send the command and read its reply. They close the connection
    # if they are interrupted, so that a reply is never taken for that of another command.
    if not connection.is_connected:
        await (
            connection.connect()
        )  # sending would connect, too, without asking Sentinel for the address
    await connection.send_packed_command(connection.pack_command("MGET", *names))
    values: list[bytes | None] = await connection.read_response(disable_decoding=True)
    return values


class _BlockingSentinelPool(SentinelConnectionPool, aredis.BlockingConnectionPool):
    """Connections to the primary that Sentinel names; a caller beyond the pool's size waits.

    The plain pools raise at once, and a burst of calls would look like a server that is down.
    """


async def servers_of(client: Client) -> str:
    """Return a text that identifies the current primaries: it changes with a restart or a failover.

    It holds each server's run id and replication id. A primary that was a replica in between keeps
    its run id and gets a new replication id. Raises REDIS_UNAVAILABLE_ERRORS.
    """
    if isinstance(client, aredis.RedisCluster):
        primaries = aredis.RedisCluster.PRIMARIES
        replies = await client.info("server", "replication", target_nodes=primaries)
        infos = list(replies.values())
        # The reply of a single primary does not name the server.
        infos = infos if infos and isinstance(infos[0], dict) else [replies]
    else:
        infos = [await client.info("server", "replication")]
    return ",".join(sorted(f"{info['run_id']}/{info['master_replid']}" for info in infos))


def _cluster(parts: SplitResult, options: dict[str, Any], pool_size: int) -> aredis.RedisCluster:
    return aredis.RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in _addresses(parts, 6379)],
        max_connections=pool_size,
        # One retry, for the redirection after a failover or a moved slot.
        retry=Retry(NoBackoff(), 1),
        # A missing shard must not take the links of the others with it.
        require_full_coverage=False,
        **options,
    )


def _sentinel(parts: SplitResult, options: dict[str, Any], pool_size: int) -> aredis.Redis:
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ConfigurationError("SHORTLINKS_REDIS_URL: redis+sentinel needs /<name of the master>")
    query = parse_qs(parts.query)
    sentinel_options = {
        key: options[key]
        for key in ("socket_timeout", "socket_connect_timeout", "protocol", "retry")
    }
    sentinel_options |= {
        "username": query.get("sentinel_username", [None])[0],
        "password": query.get("sentinel_password", [None])[0],
    }
    sentinels = _Sentinels(  # type: ignore[no-untyped-call]  # inherited from redis-py
        _addresses(parts, 26379), sentinel_kwargs=sentinel_options
    )
    client: aredis.Redis = sentinels.master_for(
        name,
        redis_class=_SentinelClient,
        db=_database(database),
        max_connections=pool_size,
        **options,
    )
    return client


class _Sentinels(aredis.Sentinel):
    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except (asyncio.CancelledError, *REDIS_UNAVAILABLE_ERRORS):
            # The first Sentinel may hang until the caller's deadline, so the next call begins with
            # another one.
            self.sentinels.append(self.sentinels.pop(0))
            raise


class _SentinelClient(aredis.Redis):
    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        # redis-py leaves the connections to the Sentinels open.
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        await pool.sentinel_manager.aclose()


def _addresses(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    addresses = []
    for address in parts.netloc.rpartition("@")[2].split(","):
        bracketed, _, after = address.rpartition("]")
        host, _, port = (after if bracketed else address).partition(":")
        host = bracketed.removeprefix("[") or host
        if not host or not (port or str(default_port)).isdigit():
            raise ConfigurationError(f"SHORTLINKS_REDIS_URL: {address!r} is not host:port")
        addresses.append((host, int(port or default_port)))
    return addresses


def _database(text: str) -> int:
    if text and not text.isdigit():
        raise ConfigurationError(f"SHORTLINKS_REDIS_URL: {text!r} is not a database number")
    return int(text or 0)
