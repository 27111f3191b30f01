"""The domains: which host a request names, and what the host's root and unknown codes get.

The table is small and kept whole in memory: read from PostgreSQL, or else from the copy that
the last reader left in Redis. A host that is in no row is served as the default domain, so that
probes by address and a name that is being moved find the same links. Until a table was read nobody
knows which host is in no row: any but the default one is then a domain without a name.

A target of a domain that leads back to a host of short links is not followed, as that of a link:
the domain then has its own page.
"""

from collections.abc import Sequence

from redirector.location import as_reference
from redirector.loops import Leads, OwnHosts
from redirector.repository import DomainRow
from redirector.respond import Answer, Answers, Plain
from shortcore.cache.local import Entry
from shortcore.folded_codes import fold_code
from shortcore.framing import is_host
from shortcore.links import absent
from shortcore.urls import normalise_host

_REMEMBERED = 1024
"""Spellings of hosts (with ports, in capitals) whose domain is remembered."""


class Domain:
    """A host and the two answers that are its own; `nowhere` is the entry of a code without link.

    The host is "" while nobody knows which domain a request means.
    """

    __slots__ = ("case_insensitive", "doubtful", "home", "host", "not_found", "nowhere")

    def __init__(
        self, row: DomainRow, answers: Answers, own: OwnHosts, asked: str | None = None
    ) -> None:
        self.host = row.host
        self.case_insensitive = row.case_insensitive
        self.doubtful = False
        """Whether a target may lead back, which the request must tell; with `asked` it is told."""

        def to(target: str | None, result: str, page: Answer) -> Answer:
            if target is None or own.leads_back(target, asked or row.host):
                return page
            self.doubtful |= asked is None and own.leads(target) is not Leads.ELSEWHERE
            return answers.elsewhere(as_reference(target), result)

        self.home = to(row.default_target, "home", answers.home)
        self.not_found = to(row.not_found_target, "not_found", answers.not_found)
        self.nowhere: Entry[Plain | Answer | None] = Entry(
            absent(), self.not_found, refresh_at=0, fresh_until=0, stale_until=0, grains=0
        )

    def spelled(self, code: str) -> str:
        """Return `code` as links of this domain are stored."""
        return fold_code(code) if self.case_insensitive else code


class Domains:
    """All domains; until `replace` is called only the default one is known, without targets."""

    def __init__(self, default_host: str, answers: Answers) -> None:
        self._answers = answers
        self._default_host = default_host
        self._rows: Sequence[DomainRow] | None = None
        self._by_host: dict[str, Domain] = {}
        self.known: dict[bytes, Domain] = {}
        """Values of Host fields whose domain is remembered; short and valid ones only."""
        self.own = OwnHosts({default_host})
        self.default = Domain(DomainRow(default_host), answers, self.own)
        self._unknown = Domain(DomainRow(""), answers, self.own)

    def __len__(self) -> int:
        return len(self._by_host)

    def replace(self, rows: Sequence[DomainRow]) -> bool:
        """Use `rows` from now on; returns whether they differ from those before."""
        if self._rows is not None and list(rows) == list(self._rows):
            return False
        self._rows = tuple(rows)
        self.own = own = OwnHosts({self._default_host, *(row.host for row in rows)})
        self._by_host = {row.host: Domain(row, self._answers, own) for row in rows}
        self.known.clear()
        if self._default_host not in self._by_host:
            row = DomainRow(self._default_host)
            self._by_host[self._default_host] = Domain(row, self._answers, own)
        self.default = self._by_host[self._default_host]
        return True

    def of_host(self, host: str) -> Domain:
        """Return the domain of a normal host, such as that of a link's key."""
        return self._by_host.get(host, self.default)

    def of_header(self, header: str) -> Domain:
        """Return the domain that a Host header names."""
        return self.of_field(header.encode("latin-1", "replace")) or self.default

    def of_field(self, value: bytes) -> Domain | None:
        """Return the domain that the value of a Host field names; None if it names no host."""
        domain = self.known.get(value)
        if domain is None and is_host(value):
            domain = self._read(value.decode("ascii"))
            if len(self.known) >= _REMEMBERED:  # made-up names: those in use come back at once
                self.known.clear()
            self.known[value] = domain
        return domain

    def _read(self, header: str) -> Domain:
        try:
            host = normalise_host(header)
        except ValueError:
            return self.default
        if self._rows is None and host != self._default_host:
            return self._unknown
        domain = self.of_host(host)
        if domain.doubtful:
            row = next(row for row in self._rows or () if row.host == domain.host)
            return Domain(row, self._answers, self.own, asked=header)
        return domain
