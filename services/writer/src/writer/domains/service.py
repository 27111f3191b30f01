"""What the API does with domains."""

import asyncpg

from shortcore.errors import DomainInUse, DomainNotFound, DomainTaken, FieldError
from shortcore.postgres import Postgres
from shortcore.urls import TargetError, TargetPolicy, normalise_host, normalise_target
from writer.announce import Announcer
from writer.domains import repository
from writer.domains.book import DomainBook
from writer.domains.repository import Domain
from writer.domains.schemas import CreateDomain, EditDomain
from writer.etags import require_match
from writer.problems import invalid
from writer.reads import Reads


class DomainService:
    """Adds, edits and removes hosts; each change reaches the redirectors as a link's would."""

    def __init__(
        self, postgres: Postgres, reads: Reads, book: DomainBook, announcer: Announcer
    ) -> None:
        self._postgres = postgres
        self._reads = reads
        self._book = book
        self._announcer = announcer

    async def all(self) -> list[Domain]:
        """Return every domain by host, as old as the replica is late."""
        return await self._reads.read(repository.all_domains)

    async def get(self, host: str) -> Domain:
        """Return one domain as it is now; raises DomainNotFound."""
        host = _known(host)
        async with self._postgres.connection() as connection:
            domains = await repository.all_domains(connection)
        for domain in domains:
            if domain.host == host:
                return domain
        raise _not_found(host)

    async def add(self, new: CreateDomain) -> Domain:
        """Add a host; raises InvalidInput, DomainTaken."""
        try:
            host = normalise_host(new.host)
        except ValueError as error:
            raise invalid([FieldError("/host", "host", str(error))]) from None
        default_target, not_found_target = self._targets(new, None)
        async with self._postgres.connection() as connection:
            domain = await repository.add_domain(connection, host, default_target, not_found_target)
        if domain is None:
            raise DomainTaken(
                f"The domain {host} exists already.",
                fields=[FieldError("/host", "taken", "This domain exists already.")],
            )
        await self._changed()
        return domain

    async def edit(self, host: str, edit: EditDomain, if_match: str | None) -> Domain:
        """Merge `edit` into the domain; without any change it keeps its version."""
        host = _known(host)
        async with self._postgres.connection() as connection, connection.transaction():
            old = await repository.locked_domain(connection, host)
            if old is None:
                raise _not_found(host)
            require_match(if_match, old.version)
            default_target, not_found_target = self._targets(edit, old)
            if (default_target, not_found_target) == (old.default_target, old.not_found_target):
                return old
            domain = await repository.save_domain(
                connection, host, default_target, not_found_target
            )
        await self._changed()
        return domain

    async def remove(self, host: str) -> None:
        """Remove a host without links; raises DomainInUse, DomainNotFound."""
        host = _known(host)
        if host == self._book.default_host:
            raise DomainInUse("The default domain cannot be removed.")
        try:
            async with self._postgres.connection() as connection:
                removed = await repository.remove_domain(connection, host)
        except asyncpg.ForeignKeyViolationError:
            raise DomainInUse(
                f"The domain {host} has links, perhaps in the trash; purge them first."
            ) from None
        if not removed:
            raise _not_found(host)
        await self._changed()

    async def _changed(self) -> None:
        self._announcer.wake_relay()
        await self._book.refresh()

    def _targets(self, sent: EditDomain, old: Domain | None) -> tuple[str | None, str | None]:
        fields: list[FieldError] = []
        policy = self._book.policy

        def target(name: str, raw: str | None, before: str | None) -> str | None:
            if name not in sent.model_fields_set:
                return before
            return None if raw is None else _normal(name, raw, policy, fields)

        targets = (
            target(
                "default_target", sent.default_target, None if old is None else old.default_target
            ),
            target(
                "not_found_target",
                sent.not_found_target,
                None if old is None else old.not_found_target,
            ),
        )
        if fields:
            raise invalid(fields)
        return targets


def _normal(name: str, raw: str, policy: TargetPolicy, fields: list[FieldError]) -> str | None:
    try:
        return normalise_target(raw, policy)
    except TargetError as error:
        fields.append(FieldError(f"/{name}", error.rule, str(error)))
        return None


def _known(host: str) -> str:
    try:
        return normalise_host(host)
    except ValueError:
        raise DomainNotFound("There is no such domain.") from None


def _not_found(host: str) -> DomainNotFound:
    return DomainNotFound(f"There is no domain {host}.")
