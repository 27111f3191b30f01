"""Ids of links, taken from blocks, so that most creates need no round trip for an id."""

import asyncio
from collections import deque
from collections.abc import Callable

from shortcore.errors import DatabaseUnavailable
from shortcore.links.record import LinkId
from shortcore.storage.postgres import Connection, Postgres
from shortcore.storage.schema import ID_BLOCK

_BLOCKS = "SELECT nextval('link_ids') FROM generate_series(1, $1)"


class IdBlocks:
    """Gives out unique ids. Unused ids are lost at the end of the process, which is harmless.

    Fetches the next block in the background when half a block is left.
    """

    def __init__(self, postgres: Postgres, spawn: Callable[..., "asyncio.Task[None]"]) -> None:
        self._postgres = postgres
        self._spawn = spawn
        self._ids: deque[int] = deque()
        self._prefetching = False

    async def take(self, count: int, connection: Connection) -> list[LinkId]:
        """Return `count` ids, fetched over the caller's `connection` if too few are left.

        A second connection from the pool could cause a deadlock between callers.
        """
        while len(self._ids) < count:
            await self._fetch(connection, -(-(count - len(self._ids)) // ID_BLOCK))
        taken = [LinkId(self._ids.popleft()) for _ in range(count)]
        if len(self._ids) < ID_BLOCK // 2 and not self._prefetching:
            self._prefetching = True
            self._spawn("ids", self._prefetch())
        return taken

    async def _fetch(self, connection: Connection, blocks: int) -> None:
        for row in await connection.fetch(_BLOCKS, blocks):
            self._ids.extend(range(row[0], row[0] + ID_BLOCK))

    async def _prefetch(self) -> None:
        try:
            async with self._postgres.connection() as connection:
                await self._fetch(connection, 1)
        except DatabaseUnavailable:
            pass  # the next create fetches ids itself, and reports the error
        finally:
            self._prefetching = False
