import asyncio
import time
from urllib.parse import urlsplit

import asyncpg
import pytest
from harness.stopwatch import Stopwatch

from shortcore.errors import DatabaseUnavailable, LinkNotFound
from shortcore.storage.circuit_breaker import Breaker, State
from shortcore.storage.postgres import open_postgres
from shortctl.embedded.ports import free_port


class Proxy:
    """A TCP proxy that can stop forwarding: it then drops all bytes and closes nothing."""

    def __init__(self, url):
        self._target = urlsplit(url)
        self._silent = self._holding = False
        self.left = asyncio.Event()
        """Set when the server has closed a connection."""
        self._writers = []
        self._tasks = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        credentials = self._target.netloc.rpartition("@")[0]
        self.url = self._target._replace(netloc=f"{credentials}@127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(self, *exc_info):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def fall_silent(self):
        self._silent = True

    def hold_the_line(self):
        """Forward bytes, but no longer close connections."""
        self._holding = True

    async def _accept(self, reader, writer):
        to_reader, to_writer = await asyncio.open_connection(
            self._target.hostname, self._target.port
        )
        self._writers += [writer, to_writer]
        self._tasks += [
            asyncio.create_task(self._pump(reader, to_writer)),
            asyncio.create_task(self._pump(to_reader, writer, self.left)),
        ]

    async def _pump(self, reader, writer, left=None):
        try:
            while data := await reader.read(65536):
                if not self._silent:
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            if left is not None:
                left.set()
            if not (self._silent or self._holding):
                writer.close()


def breaker(failures=1000, open_s=30.0):
    return Breaker(failures=failures, open_s=open_s, clock=time.monotonic)


async def opened(url, *, timeout_ms=300, pool_size=2, limit=None):
    return await open_postgres(
        url,
        name="postgres",
        pool_size=pool_size,
        statement_cache=16,
        timeout_ms=timeout_ms,
        breaker=limit or breaker(),
        application="test",
    )


@pytest.fixture
async def database(database_url):
    made = await opened(database_url)
    yield made
    await made.close()


async def answers(database):
    """Ask with a deadline that a busy machine meets."""
    async with database.connection(timeout_ms=20_000) as connection:
        return await connection.fetchval("SELECT 1") == 1


async def test_a_query_returns_its_result(database):
    assert await answers(database)
    assert database.check().ok


async def test_a_connection_that_the_server_has_ended_is_unavailable_and_is_replaced(
    database_url, database
):
    async with Proxy(database_url) as proxy:
        behind = await opened(proxy.url, pool_size=1)
        async with behind.connection() as connection:
            pid = connection.get_server_pid()
        proxy.hold_the_line()  # its last message arrives, the close does not
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT pg_terminate_backend($1)", pid)
        await asyncio.wait_for(proxy.left.wait(), 10)
        for _ in range(10):  # event loop iterations in which the message is read
            await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable):
            async with behind.connection() as connection:
                await connection.fetchval("SELECT 1")
        assert await answers(behind)
        await behind.close()


async def test_a_server_that_is_down_is_reported_at_once():
    database = await opened(f"postgresql://u@127.0.0.1:{free_port()}/x")
    with Stopwatch() as took, pytest.raises(DatabaseUnavailable, match="postgres"):
        async with database.connection():
            pass
    assert took.seconds < 0.25
    await database.close()


async def test_a_server_that_accepts_and_never_answers_is_given_up_at_the_deadline():
    async def mute(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    database = await opened(f"postgresql://u@127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    with Stopwatch() as took, pytest.raises(DatabaseUnavailable, match="300 ms"):
        async with database.connection():
            pass
    assert took.wall_s > 0.25
    assert took.seconds < 0.6
    await database.close()
    server.close()
    await server.wait_closed()


async def test_a_slow_query_ends_at_the_deadline_and_frees_its_connection(database):
    with Stopwatch() as took, pytest.raises(DatabaseUnavailable, match="300 ms"):
        async with database.connection() as connection:
            await connection.execute("SELECT pg_sleep(5)")
    assert took.seconds < 0.7
    for _ in range(4):
        assert await answers(database)


@pytest.mark.fault
async def test_a_server_that_stops_answering_in_a_transaction_is_given_up_at_the_deadline(
    database_url,
):
    async with Proxy(database_url) as proxy:
        database = await opened(proxy.url)

        async def work():
            async with database.connection() as connection, connection.transaction():
                assert await connection.fetchval("SELECT 1") == 1
                proxy.fall_silent()
                await connection.fetchval("SELECT 2")

        with Stopwatch() as took, pytest.raises(DatabaseUnavailable):
            await work()
        assert took.wall_s > 0.25
        assert took.seconds < 0.7
        await database.close()


@pytest.mark.fault
async def test_a_server_that_stops_answering_before_the_release_is_given_up_at_the_deadline(
    database_url,
):
    async with Proxy(database_url) as proxy:
        database = await opened(proxy.url)
        with Stopwatch() as took:
            async with database.connection() as connection:
                await connection.fetchval("SELECT 1")
                proxy.fall_silent()
        assert took.seconds < 0.7
        with pytest.raises(DatabaseUnavailable):
            async with database.connection() as connection:
                await connection.fetchval("SELECT 1")
        with Stopwatch() as took:
            await database.close()
        assert took.seconds < 1.5


@pytest.mark.fault
async def test_a_cancelled_caller_does_not_wait_for_a_silent_server(database_url):
    async with Proxy(database_url) as proxy:
        database = await opened(proxy.url)

        async def work():
            async with database.connection() as connection, connection.transaction():
                await connection.fetchval("SELECT 1")
                proxy.fall_silent()
                await connection.fetchval("SELECT 2")

        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with Stopwatch() as took, pytest.raises((asyncio.CancelledError, DatabaseUnavailable)):
            await task
        assert took.seconds < 0.7
        await database.close()


async def test_waiting_for_a_full_pool_ends_at_the_deadline(database):
    entered = asyncio.Event()
    release = asyncio.Event()

    async def hold():
        async with database.connection(timeout_ms=5000):
            entered.set()
            await release.wait()

    holders = [asyncio.create_task(hold()) for _ in range(2)]
    await entered.wait()
    with Stopwatch() as took, pytest.raises(DatabaseUnavailable, match="300 ms"):
        async with database.connection():
            pass
    assert took.wall_s > 0.25
    assert took.seconds < 0.6
    release.set()
    await asyncio.gather(*holders)
    assert await answers(database)


async def test_a_cancelled_caller_gives_its_connection_back(database):
    async def work():
        async with database.connection() as connection:
            await connection.execute("SELECT pg_sleep(5)")

    for _ in range(4):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await answers(database)


async def test_after_some_failures_the_breaker_refuses_without_asking_then_probes(database_url):
    clock = [0.0]
    limit = Breaker(failures=2, open_s=1, clock=lambda: clock[0])
    database = await opened(database_url, limit=limit, timeout_ms=50)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_sleep(1)")
    assert limit.state is State.OPEN
    assert not database.check().ok
    waits = []
    for _ in range(5):
        with Stopwatch() as took, pytest.raises(DatabaseUnavailable):
            async with database.connection():
                pass
        waits.append(took.seconds)
    assert min(waits) < 0.02
    clock[0] = 2
    assert await answers(database)
    assert limit.state is State.CLOSED
    await database.close()


async def test_slow_queries_do_not_open_the_breaker_while_others_are_answered(database_url):
    limit = breaker(failures=2)
    database = await opened(database_url, limit=limit, timeout_ms=2000)

    async def slow():
        with pytest.raises(DatabaseUnavailable):
            async with database.connection(timeout_ms=400) as connection:
                await connection.execute("SELECT pg_sleep(10)")

    searches = [asyncio.create_task(slow()) for _ in range(2)]
    while not all(each.done() for each in searches):
        assert await answers(database)
        await asyncio.sleep(0.01)
    await asyncio.gather(*searches)
    assert limit.opened_total == 0
    await database.close()


async def test_an_error_of_shortlinks_in_the_block_counts_as_an_answer_of_the_server(database_url):
    clock = [0.0]
    limit = Breaker(failures=1, open_s=1, clock=lambda: clock[0])
    database = await opened(database_url, limit=limit)
    limit.failed()
    clock[0] = 2

    async def look():
        async with database.connection() as connection:
            await connection.fetchval("SELECT 1")
            raise LinkNotFound("There is no such link.")

    with pytest.raises(LinkNotFound):
        await look()
    assert limit.state is State.CLOSED
    await database.close()


async def test_an_sql_error_passes_through_and_is_not_a_failure(database_url):
    limit = breaker(failures=1)
    database = await opened(database_url, limit=limit)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.connection() as connection:
            await connection.fetchval("SELECT * FROM nowhere")
    assert limit.state is State.CLOSED
    await database.close()


async def test_an_error_of_the_caller_passes_through_and_is_not_a_failure(database_url):
    limit = breaker(failures=1)
    database = await opened(database_url, limit=limit)

    class OwnError(Exception):
        pass

    with pytest.raises(OwnError):
        async with database.connection():
            raise OwnError
    assert limit.state is State.CLOSED
    await database.close()


async def test_a_write_on_a_read_only_server_is_unavailable_not_an_internal_error(database):
    with pytest.raises(DatabaseUnavailable, match=r"(?i)read-only"):
        async with database.connection() as connection, connection.transaction(readonly=True):
            await connection.execute("CREATE TABLE x (a int)")


@pytest.mark.fault
async def test_connections_cut_by_the_server_are_replaced(database, database_url):
    async with database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    killer = await asyncpg.connect(database_url)
    await killer.execute("SELECT pg_terminate_backend($1)", pid)
    await killer.close()
    for _ in range(50):
        try:
            async with database.connection() as connection:
                assert await connection.fetchval("SELECT pg_backend_pid()") != pid
                break
        except DatabaseUnavailable:
            continue  # the one that was cut
    else:
        pytest.fail("the pool never recovered")
