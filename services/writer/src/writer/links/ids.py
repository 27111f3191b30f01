"""Ids of links, taken from blocks, so that a create usually asks nobody for one."""

import asyncio
from collections import deque
from collections.abc import Callable

from shortcore.errors import DatabaseUnavailable
from shortcore.links.record import LinkId
from shortcore.storage.postgres import Connection, Postgres
from shortcore.storage.schema import ID_BLOCK

_BLOCKS = "SELECT nextval('link_ids') FROM generate_series(1, $1)"


class IdBlocks:
    """Hands out ids that nobody else gets; unused ones are lost at the end, which is no harm.

    When half a block is left the next one is fetched in the background.
    """

    def __init__(self, postgres: Postgres, spawn: Callable[..., "asyncio.Task[None]"]) -> None:
        self._postgres = postgres
        self._spawn = spawn
        self._ids: deque[int] = deque()
        self._prefetching = False

    async def take(self, count: int, connection: Connection) -> list[LinkId]:
        """Return `count` ids, through the caller's own `connection` if there are too few.

        A second connection from the pool could never come if all holders of one wait for it.
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
            pass  # the next create asks itself, and tells its caller
        finally:
            self._prefetching = False
