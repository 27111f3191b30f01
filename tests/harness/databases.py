"""A fresh database a test, copied from a template that was migrated once."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

T = TypeVar("T")
TEMPLATE = "migrated"


class Databases:
    """Makes and drops databases on one server.

    It works in a thread with a loop of its own, so a fixture may use it whether or not a
    test's loop runs.
    """

    def __init__(self, url: str, upgrade: Callable[[str], None]) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="databases")
        self._thread.start()
        self._connection = self._run(asyncpg.connect(url))
        self._execute(f'CREATE DATABASE "{TEMPLATE}"')
        # It may run a loop itself, which needs a thread without one.
        in_thread(lambda: upgrade(self._named(TEMPLATE)))

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of a new database, which is dropped with all its connections after."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = TEMPLATE if migrated else "template1"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        try:
            yield self._named(name)
        finally:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _named(self, name: str) -> str:
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    def _execute(self, sql: str) -> None:
        self._run(self._connection.execute(sql))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


def fetch(url: str, sql: str) -> Any:
    """Return the one value that `sql` gives on a connection of its own."""

    async def ask() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return in_thread(lambda: asyncio.run(ask()))


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` where no event loop runs, whatever the caller's thread does."""
    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as caught:  # noqa: BLE001  # raised again in the caller's thread
            error.append(caught)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]
