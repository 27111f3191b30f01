"""Which subjects a click counts for: the domain, the tags and the owner of its link.

They are read from PostgreSQL by the id of the link and remembered for about a minute. So a changed tag
counts for later clicks only.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

from shortcore.clicks.rollups import Kind
from shortcore.storage.postgres import Connection
from writer.worker import repository

TTL_S = 60.0
CHUNK = 2000
"""Maximum ids or names in one statement, which is answered within a few milliseconds."""

MAX_HOSTS = 10_000
MAX_TAGS = 100_000

Subjects: TypeAlias = tuple[tuple[int, int], ...]
"""The subjects of a link besides itself, each a number of `Kind` and an id. Clicks are grouped by it."""

DOMAIN, TAG, OWNER = int(Kind.DOMAIN), int(Kind.TAG), int(Kind.OWNER)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class SubjectCache:
    """Remembers subjects of the links of one stream.

    Call `load` for links and hosts before `of`. It may forget others, so each stream has a cache of
    its own.
    """

    def __init__(self, max_links: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._links: _Recent[int, Subjects | None] = _Recent(max_links, clock)
        self._domains: _Recent[str, Subjects] = _Recent(MAX_HOSTS, clock)
        self._tags: dict[str, int] = {}
        self._same: dict[Subjects, Subjects] = {}

    def of(self, link_id: int, host: str) -> Subjects:
        """Return the subjects of a click.

        If the link is unknown (it was purged), the click counts for the domain that was requested.
        """
        subjects = self._links.get(link_id)
        if subjects is None:
            subjects = self._domains.get(host)
        return subjects or ()

    async def load(
        self, connection: Connection, link_ids: Collection[int], hosts: Collection[str]
    ) -> None:
        """Read what is not remembered. Raises the errors of PostgreSQL."""
        self._links.age()
        self._domains.age()
        for ids in _chunks(self._links.missing(link_ids)):
            found = await repository.read_links(connection, ids)
            await self._load_tags(connection, {tag for *_, tags in found for tag in tags})
            for link_id in ids:
                self._links.set(link_id, None)
            for link_id, domain_id, owner, tags in found:
                self._links.set(link_id, self._subjects(domain_id, owner, tags))
        for names in _chunks(self._domains.missing(hosts)):
            domains = await repository.read_domains(connection, names)
            for host in names:
                known = host in domains
                self._domains.set(host, ((DOMAIN, domains[host]),) if known else ())

    def _subjects(self, domain_id: int, owner: int | None, tags: Iterable[str]) -> Subjects:
        subjects: Subjects = (
            (DOMAIN, domain_id),
            *(() if owner is None else ((OWNER, owner),)),
            *((TAG, self._tags[tag]) for tag in sorted(set(tags))),
        )
        if len(self._same) > MAX_TAGS:
            self._same.clear()
        return self._same.setdefault(subjects, subjects)

    async def _load_tags(self, connection: Connection, tags: set[str]) -> None:
        if len(self._tags) > MAX_TAGS:
            self._tags.clear()
        missing = tags - self._tags.keys()
        for names in _chunks(sorted(missing)):
            self._tags |= await repository.tag_ids(connection, names)


def _chunks(items: Sequence[_Key]) -> Iterator[Sequence[_Key]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


class _Recent(Generic[_Key, _Value]):
    """A bounded cache of two generations: a value is forgotten after TTL_S at the latest."""

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self._max = max_entries // 2
        self._clock = clock
        self._young: dict[_Key, _Value] = {}
        self._old: dict[_Key, _Value] = {}
        self._since = clock()

    def get(self, key: _Key) -> _Value | None:
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def set(self, key: _Key, value: _Value) -> None:
        self._young[key] = value

    def missing(self, keys: Collection[_Key]) -> list[_Key]:
        young, old = self._young, self._old
        return [key for key in keys if key not in young and key not in old]

    def age(self) -> None:
        """Begin a new generation if it is time or the young one is full; between two uses only."""
        now = self._clock()
        if now - self._since > TTL_S:
            self._old = {}
            self._young = {}
            self._since = now
        elif now - self._since > TTL_S / 2 or len(self._young) > self._max:
            self._old, self._young = self._young, {}
            self._since = now
