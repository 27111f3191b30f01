"""Keeps the domain table up to date: from PostgreSQL, or else from a copy in Redis."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from redirector.domains.cache import Domains
from redirector.lookup import repository
from redirector.lookup.repository import DomainRow
from shortcore.cache.keys import CacheKeys
from shortcore.errors import DatabaseUnavailable
from shortcore.storage.postgres import Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client

EVERY_S = 30.0
"""Interval between two reads of the table, unless `wake()` is called."""

RETRY_S = 2.0
"""Retry interval while PostgreSQL is unavailable."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[DomainRow])


class DomainLoader:
    """`load()` reads the table once; `run()` reads it after every `wake()` and periodically.

    `changed` is awaited when the table has changed.
    """

    def __init__(
        self,
        domains: Domains,
        primary: Postgres,
        replica: Postgres | None,
        client: Client,
        keys: CacheKeys,
        timeout_ms: int,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._domains = domains
        self._primary = primary
        self._replica = replica
        self._client = client
        self._name = keys.domains
        self._timeout_s = timeout_ms / 1000
        self._changed = changed
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Make `run()` read the table soon, because a domain has changed."""
        self._woken.set()

    async def load(self) -> bool:
        """Read the table from the primary; returns whether the primary answered.

        A replica may lack the change for which `wake()` was called, and links on an unknown domain
        are not found. So while the primary is down, this reads the copy in Redis. If there is no
        copy, and no table was read before, it reads the replica.
        """
        try:
            rows = await repository.list_domains(self._primary)
        except DatabaseUnavailable:
            copy = await self._copy()
            if copy is None and self._replica is not None and not len(self._domains):
                with contextlib.suppress(DatabaseUnavailable):
                    copy = await repository.list_domains(self._replica)
            if copy is not None:
                await self._use(copy)
            return False
        await self._use(rows)
        await self._keep(rows)
        return True

    async def _use(self, rows: list[DomainRow]) -> None:
        if self._domains.replace(rows):
            await self._changed()

    async def run(self) -> None:
        """Keep the table up to date until cancelled."""
        while True:
            read = await self.load()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), EVERY_S if read else RETRY_S)
            self._woken.clear()

    async def _copy(self) -> list[DomainRow] | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                data: Any = await self._client.get(self._name)  # bytes: decode_responses is off
            return _decoder.decode(data) if data else None
        except (*REDIS_UNAVAILABLE_ERRORS, msgspec.MsgspecError):
            return None  # then the present table is used

    async def _keep(self, rows: list[DomainRow]) -> None:
        with contextlib.suppress(*REDIS_UNAVAILABLE_ERRORS):  # the next reader stores it
            async with asyncio.timeout(self._timeout_s):
                await self._client.set(self._name, _encoder.encode(rows))
