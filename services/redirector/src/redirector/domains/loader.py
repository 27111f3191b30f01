"""Keeps the table of domains fresh, and checks the schema when PostgreSQL first answers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from redirector.domains.cache import Domains
from redirector.lookup import repository
from redirector.lookup.repository import DomainRow
from shortcore.cache.keys import CacheKeys
from shortcore.errors import ConfigurationError, DatabaseUnavailable, SchemaOlder
from shortcore.storage.dependency import Dependency
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from shortcore.storage.redis import REDIS_UNAVAILABLE_ERRORS, Client
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema

log = structlog.stdlib.get_logger(__name__)

EVERY_S = 30.0
RETRY_S = 2.0
"""While the table has not been read from PostgreSQL."""

SCHEMA_WAIT = SchemaWait(retry_on=(SchemaOlder,))
"""A start waits for the migration that it needs, without end."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[DomainRow])


class DomainLoader:
    """`load()` reads the table once; `run()` reads it whenever `wake()` was called, and by time.

    `changed` is awaited when the table differs from the one before.
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
        self._fits: bool | None = None
        self._misfit = ""

    def wake(self) -> None:
        """Read the table soon: a domain changed."""
        self._woken.set()

    def check(self) -> Dependency:
        """Return the schema's line for `/health`."""
        if self._fits is None:
            return Dependency("schema", ok=False, detail="not checked: PostgreSQL has not answered")
        return Dependency("schema", ok=self._fits, detail=self._misfit or "fits")

    async def check_schema(self) -> None:
        """Raise ConfigurationError if PostgreSQL answers and its schema does not fit this code."""
        with contextlib.suppress(*POSTGRES_RETRYABLE_ERRORS):
            await check_schema_of(self._primary)
            self._fits, self._misfit = True, ""

    async def wait_for_schema(self) -> None:
        """Return when the schema fits or PostgreSQL is away; wait while it is only older.

        In a first installation, or an upgrade, the migration may still be running: to end here
        would turn that into a crash loop whose pauses grow. Raises ConfigurationError when the
        schema needs newer code.
        """
        await wait_for_schema(self.check_schema, SCHEMA_WAIT, self._misfits)

    async def load(self) -> bool:
        """Read the table from the primary; returns whether it could be asked.

        Not from a replica: who wakes us tells of a change that it may not have yet, and links on
        a domain that is not known are not found. While the primary is away the copy in Redis
        counts, and at the start of a process the replica.
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
        """Keep the table fresh for ever."""
        while True:
            read = await self._load_and_check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), EVERY_S if read else RETRY_S)
            self._woken.clear()

    async def _load_and_check(self) -> bool:
        if not self._fits:
            try:
                await self.check_schema()
            except ConfigurationError as error:
                self._misfits(error)
        return await self.load()

    def _misfits(self, error: Exception) -> None:
        if str(error) != self._misfit:
            log.error("the schema does not fit", error=str(error))
        self._fits, self._misfit = False, str(error)

    async def _copy(self) -> list[DomainRow] | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                data: Any = await self._client.get(self._name)  # bytes: decode_responses is off
            return _decoder.decode(data) if data else None
        except (*REDIS_UNAVAILABLE_ERRORS, msgspec.MsgspecError):
            return None  # then what we have must do

    async def _keep(self, rows: list[DomainRow]) -> None:
        with contextlib.suppress(*REDIS_UNAVAILABLE_ERRORS):  # the next reader brings it
            async with asyncio.timeout(self._timeout_s):
                await self._client.set(self._name, _encoder.encode(rows))
