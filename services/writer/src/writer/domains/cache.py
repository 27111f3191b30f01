"""The domain cache: every create needs a domain, and checks its target against all domains."""

import asyncio
import time
from collections.abc import Callable

import structlog

from shortcore.errors import DomainNotFound
from shortcore.links.targets import TargetPolicy, normalise_host
from shortcore.settings.writer import WriterSettings
from shortcore.storage.postgres import POSTGRES_RETRYABLE_ERRORS, Postgres
from writer.domains import repository
from writer.domains.repository import Domain, DomainValues

log = structlog.stdlib.get_logger(__name__)

REFRESH_INTERVAL_S = 3.0
_MIN_INTERVAL_S = 0.2


class DomainCache:
    """All domains as of a few seconds ago. An unknown domain causes a refresh.

    `policy` has the rules for targets; it rejects targets on any of the domains.
    """

    def __init__(
        self,
        postgres: Postgres,
        settings: WriterSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default_host = settings.default_domain
        self.policy: TargetPolicy = settings.target_policy(frozenset({self.default_host}))
        self._postgres = postgres
        self._settings = settings
        self._clock = clock
        self._by_host: dict[str, Domain] = {}
        self._read_at = float("-inf")

    async def open(self) -> None:
        """Add the default domain if it is missing, and read all domains."""
        async with self._postgres.connection() as connection:
            await repository.add_domain(connection, self.default_host, DomainValues())
        await self.refresh()

    async def refresh(self) -> None:
        """Read all domains. Raises DatabaseUnavailable and then keeps the cached ones."""
        async with self._postgres.connection() as connection:
            domains = await repository.all_domains(connection)
        self._read_at = self._clock()
        hosts = frozenset(domain.host for domain in domains)
        if hosts != self._by_host.keys():
            self.policy = self._settings.target_policy(hosts | {self.default_host})
        self._by_host = {domain.host: domain for domain in domains}

    async def refresh_forever(self) -> None:
        """Refresh at an interval, as other writers change domains."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            try:
                await self.refresh()
            except POSTGRES_RETRYABLE_ERRORS as error:
                log.warning("refreshing the domains failed", error=str(error))

    @property
    def default(self) -> Domain | None:
        """The default domain, or None before the first refresh."""
        return self._by_host.get(self.default_host)

    async def find(self, host: str | None) -> Domain:
        """Return the domain `host` in any spelling, or the default domain for None.

        Raises DomainNotFound.
        """
        try:
            name = self.default_host if host is None else normalise_host(host)
        except ValueError:
            raise DomainNotFound("This is not a host name; see GET /api/v1/domains.") from None
        domain = self._by_host.get(name)
        # Another writer may have just added it. The interval keeps made-up names from causing a
        # query each.
        if domain is None and self._clock() - self._read_at > _MIN_INTERVAL_S:
            await self.refresh()
            domain = self._by_host.get(name)
        if domain is None:
            raise DomainNotFound(f"There is no domain {name}; see GET /api/v1/domains.")
        return domain
