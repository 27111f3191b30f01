"""PUT: creates a link or replaces it completely by the one in the request."""

from dataclasses import dataclass

from msgspec.structs import replace

from shortcore.errors import CodeTaken, Conflict
from shortcore.storage.postgres import Postgres
from writer.domains.cache import DomainCache
from writer.domains.repository import Domain
from writer.http.entity_tags import require_absence, require_match, require_none_match
from writer.http.problems import invalid
from writer.links import repository
from writer.links.creation import Creator
from writer.links.drafts import Draft, Drafter
from writer.links.passwords import hash_password, is_password_of
from writer.links.rules import ValidationErrors, check_address, check_code
from writer.links.schemas import ReplaceLink
from writer.links.stored import StoredLink
from writer.relay.publisher import Publisher

_ROUNDS = 3
"""Attempts while other requests create and purge the same link."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The headers `If-Match` and `If-None-Match` of a request."""

    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class ReplacementService:
    """Creates or replaces a link at the address that the request names."""

    postgres: Postgres
    domains: DomainCache
    drafter: Drafter
    creator: Creator
    publisher: Publisher
    write_timeout_ms: int

    async def replace(
        self, host: str, code: str, link: ReplaceLink, conditions: Preconditions
    ) -> tuple[StoredLink, bool]:
        """Create or replace the link; returns the link and whether it was created.

        A link that already has these values keeps its version. A deleted link is restored. Raises
        DomainNotFound, InvalidInput, VersionMismatch if a precondition fails, and Conflict if other
        requests keep creating and purging the link meanwhile.
        """
        domain = await self.domains.find(host)
        password_hash = await self._password_hash(domain, code, link)
        for _ in range(_ROUNDS):
            replaced = await self._replace(domain, code, link, conditions, password_hash)
            if replaced is not None:
                return replaced, False
            require_absence(conditions.if_match)
            try:
                return await self._create(domain, code, link, password_hash), True
            except CodeTaken:
                continue  # another request created it meanwhile
        raise Conflict("Other requests create and purge this link at the same time; try again.")

    async def _password_hash(self, domain: Domain, code: str, link: ReplaceLink) -> str | None:
        """Return the hash to store: the present one if it is that of the declared password."""
        if link.password is None:
            return None
        async with self.postgres.connection() as connection:
            found = await repository.find_link(connection, domain.host, code)
        stored = None if found is None else found.values.password_hash
        if stored is not None and await is_password_of(link.password, stored):
            return stored
        return await hash_password(link.password)

    async def _replace(
        self,
        domain: Domain,
        code: str,
        link: ReplaceLink,
        conditions: Preconditions,
        password_hash: str | None,
    ) -> StoredLink | None:
        """Replace the link, or return None if it does not exist."""
        began = self.publisher.moment()
        async with (
            self.postgres.connection(self.write_timeout_ms) as connection,
            connection.transaction(),
        ):
            old = await repository.find_link(connection, domain.host, code, lock=True)
            if old is None:
                return None
            require_none_match(conditions.if_none_match, old.version)
            require_match(conditions.if_match, old.version)
            errors = ValidationErrors()
            check_address(link, old.host, {code, old.code}, errors)
            values = self.drafter.values_of(link, errors, old.values)
            if errors.fields:
                raise invalid(errors.fields)
            kept = link.password is None and link.has_password
            values = replace(
                values, password_hash=old.values.password_hash if kept else password_hash
            )
            if values == old.values and not old.deleted:
                return old
            new = await repository.save_link(connection, old, values)
        await self.publisher.publish([(new.key, new.record)], began)
        return new

    async def _create(
        self, domain: Domain, code: str, link: ReplaceLink, password_hash: str | None
    ) -> StoredLink:
        errors = ValidationErrors()
        check_code(code, self.drafter.settings.reserved_codes, errors)
        check_address(link, domain.host, {code, domain.spelled(code)}, errors)
        values = self.drafter.values_of(link, errors)
        if errors.fields:
            raise invalid(errors.fields)
        draft = Draft(domain, domain.spelled(code), replace(values, password_hash=password_hash))
        return await self.creator.create(draft)
