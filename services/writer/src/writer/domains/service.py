"""Creates, lists, edits and removes domains."""

import contextlib

import asyncpg

from shortcore.errors import DomainInUse, DomainNotFound, DomainTaken, FieldError
from shortcore.links.targets import TargetError, TargetPolicy, normalise_host, normalise_target
from shortcore.storage.postgres import Connection, Postgres
from writer.domains import repository
from writer.domains.cache import DomainCache
from writer.domains.repository import Domain, DomainValues
from writer.domains.schemas import CreateDomain, DomainFields, EditDomain
from writer.http.entity_tags import require_match
from writer.http.problems import invalid
from writer.relay.publisher import Publisher
from writer.storage.reads import Reads


class DomainService:
    """Creates, lists, edits and removes domains; the relay delivers each change to redirectors."""

    def __init__(
        self,
        postgres: Postgres,
        reads: Reads,
        domain_cache: DomainCache,
        publisher: Publisher,
        write_timeout_ms: int,
    ) -> None:
        self._postgres = postgres
        self._reads = reads
        self._domain_cache = domain_cache
        self._publisher = publisher
        self._write_timeout_ms = write_timeout_ms

    @property
    def default_host(self) -> str:
        """The host of the default domain."""
        return self._domain_cache.default_host

    async def page(self, after: str, limit: int) -> list[Domain]:
        """Return the first `limit` domains after the host `after`, possibly from the replica."""
        return await self._reads.read(
            lambda connection: repository.list_domains(connection, after, limit)
        )

    async def get(self, host: str) -> Domain:
        """Return one domain as it is now; raises DomainNotFound."""
        host = _known(host)
        async with self._postgres.connection() as connection:
            domain = await repository.find_domain(connection, host)
        if domain is None:
            raise _not_found(host)
        return domain

    async def add(self, new: CreateDomain) -> Domain:
        """Add a domain; raises InvalidInput, DomainTaken."""
        try:
            host = normalise_host(new.host)
        except ValueError as error:
            raise invalid([FieldError("/host", "host", str(error))]) from None
        values = self._values(new, DomainValues())
        async with self._postgres.connection() as connection:
            domain = await repository.add_domain(connection, host, values)
        if domain is None:
            raise DomainTaken(
                f"The domain {host} exists already.",
                fields=[FieldError("/host", "taken", "This domain exists already.")],
            )
        await self._changed()
        return domain

    async def edit(self, host: str, edit: EditDomain, if_match: str | None) -> Domain:
        """Merge `edit` into the domain; without any change it keeps its version.

        Raises DomainInUse for `case_insensitive` if the domain has codes with capital letters.
        """
        host = _known(host)
        async with self._transaction() as connection, connection.transaction():
            # Inserts of links lock the domain, too, so nobody adds such a code meanwhile.
            old = await repository.locked_domain(connection, host)
            if old is None:
                raise _not_found(host)
            require_match(if_match, old.version)
            if "host" in edit.model_fields_set:
                _require_same_host(edit.host, old.host)
            values = self._values(edit, old.values)
            if values == old.values:
                return old
            if values.case_insensitive and not old.case_insensitive:
                code = await repository.find_capital(connection, old.id)
                if code is not None:
                    raise _has_capitals(host, code)
            domain = await repository.save_domain(connection, host, values)
        await self._changed()
        return domain

    async def remove(self, host: str) -> None:
        """Remove a domain without links; raises DomainInUse, DomainNotFound."""
        host = _known(host)
        if host == self.default_host:
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
        self._publisher.wake_relay()
        await self._domain_cache.refresh()

    def _transaction(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self._postgres.connection(self._write_timeout_ms)

    def _values(self, sent: DomainFields, old: DomainValues) -> DomainValues:
        fields: list[FieldError] = []
        policy = self._domain_cache.policy

        def target(name: str, raw: str | None, before: str | None) -> str | None:
            if name not in sent.model_fields_set:
                return before
            if raw is None or raw == before:
                return raw  # accepted under the policy of its time
            return _normal(name, raw, policy, fields)

        values = DomainValues(
            target("default_target", sent.default_target, old.default_target),
            target("not_found_target", sent.not_found_target, old.not_found_target),
            bool(sent.case_insensitive)
            if "case_insensitive" in sent.model_fields_set
            else old.case_insensitive,
        )
        if fields:
            raise invalid(fields)
        return values


def _require_same_host(sent: str | None, host: str) -> None:
    try:
        same = sent is not None and normalise_host(sent) == host
    except ValueError:
        same = False
    if not same:
        detail = f"The host of this domain is {host}, and stays so."
        raise invalid([FieldError("/host", "immutable", detail)])


def _normal(name: str, raw: str, policy: TargetPolicy, fields: list[FieldError]) -> str | None:
    try:
        return normalise_target(raw, policy)
    except TargetError as error:
        fields.append(FieldError(f"/{name}", error.rule, str(error)))
        return None


def _has_capitals(host: str, code: str) -> DomainInUse:
    detail = (
        f"The domain {host} has codes with capital letters, such as {code}, perhaps in the trash."
        " Purge those links, or add another domain for case-insensitive codes."
    )
    return DomainInUse(detail, fields=[FieldError("/case_insensitive", "conflict", detail)])


def _known(host: str) -> str:
    try:
        return normalise_host(host)
    except ValueError:
        raise DomainNotFound("There is no such domain.") from None


def _not_found(host: str) -> DomainNotFound:
    return DomainNotFound(f"There is no domain {host}.")
