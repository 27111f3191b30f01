"""Checks that PostgreSQL has a schema that this code can read, and waits for a migration."""

import asyncio
import contextlib

import structlog

from shortcore.errors import ConfigurationError, SchemaOlder
from shortcore.storage.dependency import Dependency
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from shortcore.storage.schema_wait import SchemaWait, check_schema_of, wait_for_schema

log = structlog.stdlib.get_logger(__name__)

SCHEMA_WAIT = SchemaWait(retry_on=(SchemaOlder,))
"""The start waits for the required migration without a timeout."""

RETRY_S = 2.0
"""Polling interval after the start, until the schema fits."""


class SchemaCheck:
    """`wait()` runs before the start; `run()` checks again while PostgreSQL has not answered."""

    def __init__(self, primary: Postgres) -> None:
        self._primary = primary
        self._fits: bool | None = None
        self._misfit = ""

    def check(self) -> Dependency:
        """Return the schema's line for `/health`."""
        if self._fits is None:
            return Dependency("schema", ok=False, detail="not checked: PostgreSQL has not answered")
        return Dependency("schema", ok=self._fits, detail=self._misfit or "fits")

    async def wait(self) -> None:
        """Return when the schema fits or PostgreSQL is down; wait while the schema is older.

        In a first installation or an upgrade, the migration may still be running. Exiting instead
        would cause a crash loop with growing delays. Raises ConfigurationError when the schema
        needs newer code.
        """
        await wait_for_schema(self._verify, SCHEMA_WAIT, self._reject)

    async def run(self) -> None:
        """Check until the schema fits, then wait until cancelled."""
        while True:
            await asyncio.sleep(RETRY_S)
            if not self._fits:
                try:
                    await self._verify()
                except ConfigurationError as error:
                    self._reject(error)

    async def _verify(self) -> None:
        """Raise ConfigurationError if PostgreSQL answers and its schema does not fit this code."""
        with contextlib.suppress(*POSTGRES_RETRYABLE_ERRORS):
            await check_schema_of(self._primary)
            self._fits, self._misfit = True, ""

    def _reject(self, error: Exception) -> None:
        if str(error) != self._misfit:
            log.error("the schema does not fit", error=str(error))
        self._fits, self._misfit = False, str(error)
