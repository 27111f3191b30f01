"""Placing new links: an id, a code, one statement; and what happens when the code is in use."""

import dataclasses
from collections.abc import Iterable, Sequence

import asyncpg
import msgspec

from shortcore.errors import (
    CodeTaken,
    FieldError,
    InternalError,
    InvalidInput,
    ShortlinksError,
)
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkId, LinkKey, link_key
from shortcore.storage.postgres import Connection, Postgres
from writer.domains.repository import Domain
from writer.links.ids import IdBlocks
from writer.links.repository import (
    CapitalsRefused,
    Copied,
    copy_links,
    find_folding,
    find_link,
    insert_links,
)
from writer.links.stored import LinkValues, NewLink, StoredLink
from writer.relay.publisher import Publisher
from writer.storage.batching import Batcher

Placed = StoredLink | ShortlinksError

_ROUNDS = 16
"""How often a generated code may meet a custom one before we give up. Somebody who can choose
codes cannot foresee generated ones, so that one round is already rare."""

_BATCH = 100
_WAITING = 5000
_IN_FLIGHT = 3  # while one commits and one is offered to Redis, the next is decoded and sent
_OFFERED = 100

_COPIED_FROM = 100
"""Links from which COPY is worth its round trips."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A link that passed every rule; `code` is None where one is to be generated.

    `at` is where the link lies in the request (a JSON pointer), for errors.
    """

    domain: Domain
    code: str | None
    values: LinkValues
    at: str = ""


class Creator:
    """Places drafts, alone or many in one statement."""

    def __init__(
        self,
        postgres: Postgres,
        ids: IdBlocks,
        codes: CodeSpace,
        publisher: Publisher,
        timeout_ms: int,
    ) -> None:
        self.created_total = 0
        self._postgres = postgres
        self._publisher = publisher
        self._ids = ids
        self._codes = codes
        self._timeout_ms = timeout_ms
        self._batcher: Batcher[Draft, StoredLink] = Batcher(
            self._place_committed, max_items=_BATCH, max_waiting=_WAITING, in_flight=_IN_FLIGHT
        )

    async def create(self, draft: Draft) -> StoredLink:
        """Place, commit and publish one draft, together with others that come at the same time.

        Raises CodeTaken, InvalidInput, Unavailable.
        """
        return await self._batcher.submit(draft)

    async def publish(self, links: Sequence[StoredLink], as_of_ms: int) -> None:
        """Announce committed new links, whose transaction began after `as_of_ms`."""
        self.created_total += len(links)
        # Of more links at once none is offered: it would take longer than their answer may wait,
        # and the relay, awake in a moment, would do the same work again.
        offered = links if len(links) <= _OFFERED else ()
        await self._publisher.publish_new(
            [(link_key(link.host, link.code), link.record) for link in offered], as_of_ms
        )

    async def publish_unseen(self, count: int) -> None:
        """Count committed new links, and have the relay bring all of them."""
        self.created_total += count
        await self._publisher.publish_new((), 0)

    async def place(self, connection: Connection, drafts: Sequence[Draft]) -> list[Placed]:
        """Insert `drafts` on `connection`; returns the link, or the error, of each in order.

        Of drafts that want the same code one at the most gets it. Raises
        asyncpg.ForeignKeyViolationError when a domain was removed meanwhile.
        """
        copied = await self._copy(connection, drafts)
        return await self._insert(connection, drafts) if copied is None else [*copied.stored()]

    async def place_unseen(
        self, connection: Connection, drafts: Sequence[Draft]
    ) -> list[ShortlinksError | None]:
        """Do what `place` does for somebody who looks at the errors alone."""
        if await self._copy(connection, drafts) is not None:
            return [None] * len(drafts)
        placed = await self._insert(connection, drafts)
        return [each if isinstance(each, ShortlinksError) else None for each in placed]

    async def _copy(self, connection: Connection, drafts: Sequence[Draft]) -> Copied | None:
        """Return None, with nothing done, where they are few or a code is in use."""
        if len(drafts) < _COPIED_FROM:
            return None
        try:
            async with connection.transaction():
                return await copy_links(connection, await self._with_ids(connection, drafts))
        except (asyncpg.UniqueViolationError, CapitalsRefused):
            return None

    async def _insert(self, connection: Connection, drafts: Sequence[Draft]) -> list[Placed]:
        placed: dict[int, Placed] = {}
        drafts = list(drafts)
        left = list(range(len(drafts)))
        for _ in range(_ROUNDS):
            news = await self._with_ids(connection, [drafts[index] for index in left])
            rows = await insert_links(connection, news, bulk=len(drafts) >= _COPIED_FROM)
            again = []
            folding = (
                await find_folding(connection, {new.domain_id for new in news})
                if len(rows) < len(news)
                else frozenset()
            )
            for index, new in zip(left, news, strict=True):
                draft = drafts[index]
                if (row := rows.get(new.id)) is not None:
                    placed[index] = row
                elif draft.domain.id in folding and not draft.domain.case_insensitive:
                    drafts[index] = _folded(draft)  # the domain was switched a moment ago
                    again.append(index)
                elif new.custom:
                    placed[index] = await _taken(connection, draft, new.code)
                else:
                    again.append(index)  # a custom code sits where this id leads: take the next
            left = again
            if not left:
                return [placed[index] for index in range(len(drafts))]
        raise InternalError(f"No free code was found within {_ROUNDS} attempts.")

    async def _with_ids(self, connection: Connection, drafts: Sequence[Draft]) -> list[NewLink]:
        ids = await self._ids.take(len(drafts), connection)
        return [
            NewLink(
                id=number,
                domain_id=draft.domain.id,
                host=draft.domain.host,
                code=draft.code or self._generated(draft.domain, number),
                custom=draft.code is not None,
                values=draft.values,
            )
            for number, draft in zip(ids, drafts, strict=True)
        ]

    def _generated(self, domain: Domain, number: LinkId) -> str:
        codes = self._codes
        return codes.encode_folded(number) if domain.case_insensitive else codes.encode(number)

    async def _place_committed(self, drafts: Sequence[Draft]) -> list[Placed]:
        began = self._publisher.moment()
        try:
            async with self._postgres.connection(self._timeout_ms) as connection:
                placed = await self.place(connection, drafts)
        except asyncpg.ForeignKeyViolationError:
            if len(drafts) == 1:
                return [domain_gone(drafts[0])]
        else:
            await self.publish([each for each in placed if isinstance(each, StoredLink)], began)
            return placed
        # One of them names a domain that was just removed; only its own request shall fail.
        return [(await self._place_committed([draft]))[0] for draft in drafts]


def chosen(drafts: Iterable[Draft]) -> list[LinkKey]:
    """Return the keys of those whose code somebody chose."""
    return [link_key(each.domain.host, each.code) for each in drafts if each.code is not None]


def domain_gone(draft: Draft) -> InvalidInput:
    """Return the error of a draft whose domain was removed meanwhile."""
    detail = f"There is no domain {draft.domain.host}; see GET /api/v1/domains."
    return InvalidInput(detail, fields=[FieldError(f"{draft.at}/domain", "unknown", detail)])


def _folded(draft: Draft) -> Draft:
    """Return `draft` as a domain takes it that is case-insensitive after all."""
    domain = dataclasses.replace(draft.domain, case_insensitive=True)
    code = None if draft.code is None else domain.spelled(draft.code)
    return msgspec.structs.replace(draft, domain=domain, code=code)


async def _taken(connection: Connection, draft: Draft, code: str) -> CodeTaken:
    holder = await find_link(connection, draft.domain.host, code)
    where = (
        " by a link in the trash: restore or purge that one" if holder and holder.deleted else ""
    )
    return CodeTaken(
        f"The code {code} is taken on {draft.domain.host}{where}.",
        fields=[FieldError(f"{draft.at}/code", "taken", f"The code {code} is taken{where}.")],
    )
