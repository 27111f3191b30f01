"""Creates, reads, lists, edits, deletes and restores links."""

import contextlib
import dataclasses

import asyncpg
import msgspec
from msgspec.structs import replace

from shortcore.clock import Now
from shortcore.errors import Conflict, LinkDeleted, LinkNotFound, ShortlinksError
from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.record import absent
from shortcore.links.targets import normalise_host
from shortcore.storage.postgres import Connection, Postgres
from writer.domains.cache import DomainCache
from writer.http.entity_tags import etag, require_match
from writer.http.idempotency import IdempotencyStore, IdempotentRequest, StoredResponse
from writer.http.problems import invalid
from writer.links import listing, repository
from writer.links.creation import Creator, domain_removed
from writer.links.drafts import Draft, Drafter
from writer.links.passwords import hash_password
from writer.links.rules import ValidationErrors, check_address
from writer.links.schemas import CreateLink, EditLink, LinkView, Presenter, api_path
from writer.links.stored import StoredLink
from writer.relay.publisher import Publisher
from writer.storage.reads import Reads


@dataclasses.dataclass(frozen=True, slots=True)
class LinkService:
    """Changes links in transactions, and publishes each change after its commit."""

    postgres: Postgres
    reads: Reads
    domains: DomainCache
    drafter: Drafter
    creator: Creator
    idempotency: IdempotencyStore
    publisher: Publisher
    presenter: Presenter
    now: Now
    write_timeout_ms: int

    async def create(self, link: CreateLink, request: IdempotentRequest | None) -> StoredResponse:
        """Create a link, or find an equal one if the request asks for that.

        `request` is None without an Idempotency-Key. If an equal request with the same key was
        processed earlier, its stored response is returned.
        """
        if (earlier := await self.idempotency.earlier(request)) is not None:
            return earlier
        draft = await self.drafter.draft(link)
        if request is None and not link.find_if_exists:
            return await self.create_draft(draft)
        try:
            async with self.creator.transaction([draft]) as creation:
                if (
                    earlier := await self.idempotency.claim(creation.connection, request)
                ) is not None:
                    return earlier
                found = (
                    await _find_same(creation.connection, draft) if link.find_if_exists else None
                )
                created = found or (await creation.place([draft]))[0]
                if isinstance(created, ShortlinksError):
                    raise created
                response = self._response(200 if found else 201, created)
                await self.idempotency.store(creation.connection, request, response)
        except asyncpg.ForeignKeyViolationError:
            raise domain_removed(draft) from None
        return response

    async def create_draft(self, draft: Draft) -> StoredResponse:
        """Create the link of `draft`."""
        return self._response(201, await self.creator.create(draft))

    async def get(self, host: str, code: str) -> StoredLink:
        """Return a link, deleted or not; raises LinkNotFound."""
        host, code = _address(host, code)
        async with self.postgres.connection() as connection:
            return _existing(await repository.find_link(connection, host, code), host, code)

    async def page(self, query: listing.Query) -> list[StoredLink]:
        """Return a page of links, plus one if more links follow; raises DomainNotFound."""
        if query.host is not None:
            domain = await self.domains.find(query.host)
            query = dataclasses.replace(query, host=domain.host)
        return await self.reads.read(lambda connection: listing.list_links(connection, query))

    async def tags(self) -> list[tuple[str, int]]:
        """Return the tags of links that are not in the trash, each with the number of its links."""
        return await self.reads.read(listing.count_tags)

    async def edit(self, host: str, code: str, edit: EditLink, if_match: str | None) -> StoredLink:
        """Merge `edit` into the link; without any change it keeps its version."""
        host, code = _address(host, code)
        password_hash = None if edit.password is None else await hash_password(edit.password)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            old = await self._locked(connection, host, code, if_match)
            if old.deleted:
                raise LinkDeleted("The link is in the trash; restore it first.")
            errors = ValidationErrors()
            check_address(edit, old.host, {code, old.code}, errors)
            values = self.drafter.values_of_edit(old.values, edit, errors)
            if errors.fields:
                raise invalid(errors.fields)
            if "password" in edit.model_fields_set:
                values = replace(values, password_hash=password_hash)
            if values == old.values:
                return old
            new = await repository.save_link(connection, old, values)
        await self._publish(new, began)
        return new

    async def trash(self, host: str, code: str, if_match: str | None) -> None:
        """Delete the link; has no effect if it is deleted already."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            old = await self._locked(connection, host, code, if_match)
            if old.deleted:
                return
            new = await repository.save_link(connection, old, old.values, deleted=True)
        await self._publish(new, began)

    async def purge(self, host: str, code: str, if_match: str | None) -> None:
        """Remove a deleted link for good; its code can be used again."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            await repository.fence_purge(connection)
            old = await self._locked(connection, host, code, if_match)
            if not old.deleted:
                raise Conflict("Only a link in the trash can be purged; delete it first.")
            version = await repository.purge_link(connection, old)
        await self.publisher.publish([(old.key, absent(version))], began)

    async def restore(self, host: str, code: str, if_match: str | None) -> StoredLink:
        """Restore a deleted link, unchanged; has no effect on a link that is not deleted."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            old = await self._locked(connection, host, code, if_match)
            if not old.deleted:
                return old
            new = await repository.save_link(connection, old, old.values)
        await self._publish(new, began)
        return new

    def view(self, link: StoredLink) -> LinkView:
        """Return `link` as a response shows it."""
        return self.presenter.view(link, self.now())

    async def _publish(self, link: StoredLink, as_of_ms: int) -> None:
        await self.publisher.publish([(link.key, link.record)], as_of_ms)

    def _transaction(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self.postgres.connection(self.write_timeout_ms)

    async def _locked(
        self, connection: Connection, host: str, code: str, if_match: str | None
    ) -> StoredLink:
        link = _existing(await repository.find_link(connection, host, code, lock=True), host, code)
        require_match(if_match, link.version)
        return link

    def _response(self, status: int, link: StoredLink) -> StoredResponse:
        headers = {"location": api_path(link.host, link.code), "etag": etag(link.version)}
        return StoredResponse(status, headers, msgspec.json.encode(self.view(link)))


async def _find_same(connection: Connection, draft: Draft) -> StoredLink | None:
    domain = draft.domain
    return await repository.find_same(connection, domain.id, domain.host, draft.code, draft.values)


def _address(host: str, code: str) -> tuple[str, str]:
    # An invalid address cannot exist, so PostgreSQL is not queried.
    try:
        check_custom_code(code, frozenset())
        return normalise_host(host), code
    except (CodeError, ValueError):
        raise LinkNotFound("There is no such link.") from None


def _existing(link: StoredLink | None, host: str, code: str) -> StoredLink:
    if link is None:
        raise LinkNotFound(f"There is no link {code} on {host}.")
    return link
