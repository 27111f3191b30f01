"""What the API does with one link: decides, and keeps to the order of commit and announcement."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator

import asyncpg
import msgspec
from msgspec.structs import replace

from shortcore.clock import Now
from shortcore.errors import Conflict, DomainNotFound, LinkDeleted, LinkNotFound, ShortlinksError
from shortcore.links.codes import CodeError, check_custom_code
from shortcore.links.record import LinkState, absent, link_key
from shortcore.links.targets import is_normal, normalise_host
from shortcore.settings import WriterSettings
from shortcore.storage.postgres import Connection, Postgres
from writer.domains.cache import DomainCache
from writer.http import idempotency
from writer.http.entity_tags import etag, require_match
from writer.http.idempotency import IdempotentRequest, StoredResponse
from writer.http.problems import invalid
from writer.links import listing, repository
from writer.links.creation import Creator, Draft, chosen, domain_gone
from writer.links.passwords import hash_password
from writer.links.rules import ValidationErrors, check_code, values_of_edit, values_of_new
from writer.links.schemas import CreateLink, EditLink, LinkView, Presenter, api_path
from writer.links.stored import LinkValues, StoredLink
from writer.relay.publisher import Publisher
from writer.storage.reads import Reads


@dataclasses.dataclass(slots=True)
class LinkService:
    """Creates, reads, edits, deletes, restores."""

    postgres: Postgres
    reads: Reads
    settings: WriterSettings
    domains: DomainCache
    creator: Creator
    publisher: Publisher
    presenter: Presenter
    now: Now

    async def create(
        self, link: CreateLink, idempotent: IdempotentRequest | None
    ) -> StoredResponse:
        """Create a link, or find an equal one when the request asks for that.

        With an `idempotent`, an answer that was given before is given again.
        """
        if idempotent is not None and (earlier := await self.earlier(idempotent)) is not None:
            return earlier
        draft = await self.draft(link)
        if idempotent is None and not link.find_if_exists:
            return await self.place(draft)
        return await self._create_once(link, draft, idempotent)

    async def place(self, draft: Draft) -> StoredResponse:
        """Create the link of `draft`."""
        if draft.code is None:
            return self._answer(201, await self.creator.create(draft))
        async with self.publisher.preannounced(chosen([draft])):
            created = await self.creator.create(draft)
        return self._answer(201, created)

    async def _create_once(
        self, link: CreateLink, draft: Draft, idempotent: IdempotentRequest | None
    ) -> StoredResponse:
        began = self.publisher.moment()
        try:
            async with (
                self.publisher.preannounced(chosen([draft])),
                self._transaction() as connection,
                connection.transaction(),
            ):
                if idempotent is not None:
                    earlier = await self.claim(connection, idempotent)
                    if earlier is not None:
                        return earlier
                found = await self._find(connection, draft) if link.find_if_exists else None
                created = found or (await self.creator.place(connection, [draft]))[0]
                if isinstance(created, ShortlinksError):
                    raise created
                answer = self._answer(200 if found else 201, created)
                if idempotent is not None:
                    await idempotency.store(connection, idempotent, answer)
        except asyncpg.ForeignKeyViolationError:
            raise domain_gone(draft) from None
        if found is None:
            await self.creator.publish([created], began)
        return answer

    async def draft(self, link: CreateLink, at: str = "") -> Draft:
        """Check `link` against every rule; raises InvalidInput that names all that are broken."""
        errors = ValidationErrors(at)
        domain = None
        try:
            domain = await self.domains.find(link.domain)
        except DomainNotFound as error:
            errors.add("domain", "unknown", error.detail)
        values = values_of_new(
            link, self.domains.policy, self.now(), errors, self.settings.default_redirect_status
        )
        if link.code is not None:
            check_code(link.code, self.settings.reserved_codes, errors)
        if errors.fields or domain is None:
            raise invalid(errors.fields)
        if link.password is not None:
            values = replace(values, password_hash=await hash_password(link.password))
        code = None if link.code is None else domain.spelled(link.code)
        return Draft(domain, code, values, at)

    def plain(self, item: object, at: str = "") -> Draft | None:
        """Return what `draft` makes of an item that is a target, perhaps with a code, and no more.

        None says nothing but that the item must be read and checked in full.
        """
        if not isinstance(item, dict):
            return None
        target, code = item.get("target"), item.get("code")
        if len(item) != (1 if code is None else 2) or not isinstance(target, str):  # both
            return None
        if code is not None and not isinstance(code, str):
            return None
        return self.plain_target(target, code, at)

    def plain_target(self, target: str, code: str | None, at: str = "") -> Draft | None:
        """Return what `draft` makes of a target, perhaps with a code, if that is plain to see.

        None says nothing but that it must be checked in full: nearly all links that come by the
        thousand are plain, and this takes a tenth of the time.
        """
        if (domain := self.domains.default) is None:
            return None
        if not is_normal(target, self.domains.policy):
            return None
        if code is not None:
            try:
                check_custom_code(code, self.settings.reserved_codes)
            except CodeError:
                return None
            code = domain.spelled(code)
        return Draft(domain, code, LinkValues(target, self.settings.default_redirect_status), at)

    async def get(self, host: str, code: str) -> StoredLink:
        """Return a link, also from the trash; raises LinkNotFound."""
        host, code = _address(host, code)
        async with self.postgres.connection() as connection:
            return _there(await repository.find_link(connection, host, code), host, code)

    async def page(self, query: listing.Query) -> list[StoredLink]:
        """Return the links of a page and one more, if there is one; raises DomainNotFound."""
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
            status = self.settings.default_redirect_status
            values = values_of_edit(
                old.values, edit, self.domains.policy, self.now(), errors, status
            )
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
        """Put the link into the trash; one that is there already stays as it is."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            old = await self._locked(connection, host, code, if_match)
            if old.deleted:
                return
            values = replace(old.values, state=LinkState.DELETED)
            new = await repository.save_link(connection, old, values)
        await self._publish(new, began)

    async def purge(self, host: str, code: str, if_match: str | None) -> None:
        """Remove a link that is in the trash for ever; its code is free again."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            await repository.fence_purge(connection)
            old = await self._locked(connection, host, code, if_match)
            if not old.deleted:
                raise Conflict("Only a link in the trash can be purged; delete it first.")
            version = await repository.purge_link(connection, old)
        await self.publisher.publish([(link_key(old.host, old.code), absent(version))], began)

    async def restore(self, host: str, code: str, if_match: str | None) -> StoredLink:
        """Take the link out of the trash, as an active one; any other stays as it is."""
        host, code = _address(host, code)
        began = self.publisher.moment()
        async with self._transaction() as connection, connection.transaction():
            old = await self._locked(connection, host, code, if_match)
            if not old.deleted:
                return old
            values = replace(old.values, state=LinkState.ACTIVE)
            new = await repository.save_link(connection, old, values)
        await self._publish(new, began)
        return new

    def view(self, link: StoredLink) -> LinkView:
        """Return `link` as answers show it."""
        return self.presenter.view(link, self.now())

    def views(self, links: Iterable[StoredLink]) -> Iterator[LinkView]:
        """Yield `links` as answers show them, all at one time."""
        now = self.now()
        return (self.presenter.view(link, now) for link in links)

    async def earlier(self, idempotent: IdempotentRequest) -> StoredResponse | None:
        """Return the answer to an earlier, equal request.

        Asked before the rules are: what was valid then may be refused now (an expiry that has
        passed), and the second answer must equal the first.
        """
        async with self.postgres.connection() as connection:
            return await idempotency.earlier(
                connection, idempotent, self.settings.idempotency_ttl_s
            )

    async def claim(
        self, connection: Connection, idempotent: IdempotentRequest
    ) -> StoredResponse | None:
        """Claim the idempotent's key in the caller's transaction, or return the earlier answer."""
        return await idempotency.claim(connection, idempotent, self.settings.idempotency_ttl_s)

    async def _publish(self, link: StoredLink, as_of_ms: int) -> None:
        await self.publisher.publish([(link_key(link.host, link.code), link.record)], as_of_ms)

    def _transaction(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        return self.postgres.connection(self.settings.postgres_write_timeout_ms)

    async def _locked(
        self, connection: Connection, host: str, code: str, if_match: str | None
    ) -> StoredLink:
        link = _there(await repository.find_link(connection, host, code, lock=True), host, code)
        require_match(if_match, link.version)
        return link

    async def _find(self, connection: Connection, draft: Draft) -> StoredLink | None:
        return await repository.find_same(
            connection, draft.domain.id, draft.domain.host, draft.code, draft.values
        )

    def _answer(self, status: int, link: StoredLink) -> StoredResponse:
        headers = {"location": api_path(link.host, link.code), "etag": etag(link.version)}
        return StoredResponse(status, headers, msgspec.json.encode(self.view(link)))


def _address(host: str, code: str) -> tuple[str, str]:
    # What cannot be an address is simply not there, and PostgreSQL is not asked with it.
    try:
        check_custom_code(code, frozenset())
        return normalise_host(host), code
    except (CodeError, ValueError):
        raise LinkNotFound("There is no such link.") from None


def _there(link: StoredLink | None, host: str, code: str) -> StoredLink:
    if link is None:
        raise LinkNotFound(f"There is no link {code} on {host}.")
    return link
