"""Placement: gives drafts their ids and codes and inserts them, and handles codes in use."""

import dataclasses
from collections.abc import Sequence

import asyncpg
import msgspec

from shortcore.errors import CodeTaken, FieldError, InternalError, ShortlinksError
from shortcore.links.codes import CodeSpace
from shortcore.links.record import LinkId
from shortcore.storage.postgres import Connection
from writer.domains.repository import Domain
from writer.links.drafts import Draft
from writer.links.ids import IdBlocks
from writer.links.repository import (
    CapitalsRefused,
    Copied,
    copy_links,
    find_folding,
    find_link,
    insert_links,
)
from writer.links.stored import NewLink, StoredLink

Placed = StoredLink | ShortlinksError
"""The result of a draft: the link, or the reason why it could not be created."""

_MAX_ROUNDS = 16
"""Rounds in which generated codes may be in use as custom codes. Nobody can predict generated
codes, so a second round is rare."""

COPY_MIN_LINKS = 100
"""Minimum number of links for which a COPY is faster than an INSERT, despite more round trips."""


class Placement:
    """Inserts drafts within a transaction of the caller."""

    def __init__(self, ids: IdBlocks, codes: CodeSpace) -> None:
        self._ids = ids
        self._codes = codes

    async def place(self, connection: Connection, drafts: Sequence[Draft]) -> list[Placed]:
        """Insert `drafts`; returns the link or the error of each, in order.

        At most one of several drafts with the same code gets it. Raises
        asyncpg.ForeignKeyViolationError if a domain was removed since the drafts were made.
        """
        copied = await self._copy(connection, drafts)
        return await self._insert(connection, drafts) if copied is None else [*copied.stored()]

    async def place_unread(
        self, connection: Connection, drafts: Sequence[Draft]
    ) -> list[ShortlinksError | None]:
        """Insert `drafts` like `place`, but return only the error of each, or None."""
        if await self._copy(connection, drafts) is not None:
            return [None] * len(drafts)
        placed = await self._insert(connection, drafts)
        return [each if isinstance(each, ShortlinksError) else None for each in placed]

    async def _copy(self, connection: Connection, drafts: Sequence[Draft]) -> Copied | None:
        """Return None, having inserted nothing, if the drafts are few or a code is in use."""
        if len(drafts) < COPY_MIN_LINKS:
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
        for _ in range(_MAX_ROUNDS):
            news = await self._with_ids(connection, [drafts[index] for index in left])
            rows = await insert_links(connection, news, bulk=len(drafts) >= COPY_MIN_LINKS)
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
                    drafts[index] = _folded(draft)  # the domain has become case-insensitive
                    again.append(index)
                elif new.custom:
                    placed[index] = await _taken(connection, draft, new.code)
                else:
                    again.append(index)  # the generated code is in use as a custom code
            left = again
            if not left:
                return [placed[index] for index in range(len(drafts))]
        raise InternalError(f"No free code was found within {_MAX_ROUNDS} attempts.")

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


def _folded(draft: Draft) -> Draft:
    """Return `draft` for its domain, which has become case-insensitive."""
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
