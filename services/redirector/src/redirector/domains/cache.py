"""The domain table in memory: finds the domain of a request, and the responses of each domain.

The whole table is in memory. It is read from PostgreSQL, or from the copy in Redis if PostgreSQL is
down. An unknown host gets the links of the default domain, so that probes by IP address and a name
whose DNS has just changed work; with the setting `unknown_host`, it gets a 404 or a redirect on
every path instead. Before the first read, any host other than the default one counts as a domain
without a name.

If a target of a domain leads back to a host of short links, the domain shows its built-in page
instead of the redirect.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from redirector.domains.unknown_hosts import UnknownHosts
from redirector.lookup.repository import DomainRow
from redirector.responses.responses import Response, Responses
from redirector.rules.location import as_reference
from redirector.rules.loops import Leads, OwnHosts
from shortcore.cache.local import Entry
from shortcore.http.framing import is_host
from shortcore.links.folded_codes import fold_code
from shortcore.links.record import absent
from shortcore.links.targets import normalise_host
from shortcore.settings.redirector import UnknownHostPolicy

_REMEMBERED = 1024
"""Maximum cached spellings of hosts, such as those with a port or capital letters."""


class Domain:
    """A host, with the responses of its root and of unknown codes (`not_found_entry` as an entry).

    The host is "" if the domain of a request cannot be known yet. `closed` is the response to every
    path of a host that is not a domain.
    """

    __slots__ = (
        "case_insensitive",
        "closed",
        "doubtful",
        "home",
        "host",
        "not_found",
        "not_found_entry",
    )

    def __init__(
        self, row: DomainRow, responses: Responses, own: OwnHosts, asked: str | None = None
    ) -> None:
        self.host = row.host
        self.closed: Response | None = None
        self.case_insensitive = row.case_insensitive
        self.doubtful = False
        """Whether a target may lead back, depending on the request; never with `asked`."""

        def to(target: str | None, result: str, page: Response) -> Response:
            if target is None or own.leads_back(target, asked or row.host):
                return page
            self.doubtful |= asked is None and own.leads(target) is not Leads.ELSEWHERE
            return responses.elsewhere(as_reference(target), result)

        self.home = to(row.default_target, "home", responses.home)
        self.not_found = to(row.not_found_target, "not_found", responses.not_found)
        self.not_found_entry: Entry[Response | None] = Entry(
            absent(), self.not_found, refresh_at=0, fresh_until=0, stale_until=0, size=0
        )

    def spelled(self, code: str) -> str:
        """Return `code` as links of this domain are stored."""
        return fold_code(code) if self.case_insensitive else code


class Domains:
    """All domains. Before the first `replace`, it has only the default domain, without targets."""

    def __init__(
        self,
        default_host: str,
        responses: Responses,
        unknown_hosts: UnknownHosts,
        policy: UnknownHostPolicy = "default",
        unknown_target: str | None = None,
    ) -> None:
        self._responses = responses
        self._default_host = default_host
        self._rows: Sequence[DomainRow] | None = None
        self._by_host: dict[str, Domain] = {}
        self.known: dict[bytes, Domain] = {}
        """Cached domains by the value of a Host field; short and valid values only."""
        self.own = OwnHosts({default_host})
        self.default = Domain(DomainRow(default_host), responses, self.own)
        self._unread = Domain(DomainRow(""), responses, self.own)
        self._unknown_hosts = unknown_hosts
        self._lost = self._closed_by(responses.unknown_host)
        self.malformed = self._closed_by(responses.malformed_host)
        """The domain of a request whose forwarded host is malformed."""
        self._strange: Domain | None = None
        """The domain of unknown hosts, if it is not the default domain."""
        self._strange_host = ""
        if policy == "not_found":
            self._strange = self._lost
        elif policy == "redirect" and unknown_target is not None:
            location = as_reference(unknown_target)
            self._strange = self._closed_by(responses.elsewhere(location, "unknown_host"))
            self._strange_host = _host_of(urlsplit(unknown_target).netloc)

    def __len__(self) -> int:
        return len(self._by_host)

    def replace(self, rows: Sequence[DomainRow]) -> bool:
        """Replace all domains by `rows`; returns whether anything changed."""
        if self._rows is not None and list(rows) == list(self._rows):
            return False
        self._rows = tuple(rows)
        self.own = own = OwnHosts({self._default_host, *(row.host for row in rows)})
        self._by_host = {row.host: Domain(row, self._responses, own) for row in rows}
        self.known.clear()
        if self._default_host not in self._by_host:
            row = DomainRow(self._default_host)
            self._by_host[self._default_host] = Domain(row, self._responses, own)
        self.default = self._by_host[self._default_host]
        return True

    def of_host(self, host: str) -> Domain:
        """Return the domain of a normal host, such as that of a link's key."""
        return self._by_host.get(host, self.default)

    def of_header(self, header: str, *, count: bool = True) -> Domain:
        """Return the domain that a Host header names.

        With `count`, an unknown host is counted. Use it once per request.
        """
        domain = self.of_field(header.encode("latin-1", "replace"), count=count)
        return domain or self._of_unknown("", header, count=count)

    def of_field(self, value: bytes, *, count: bool = True) -> Domain | None:
        """Return the domain that the value of a Host field names; None if it names no host.

        Only hosts of domains are cached: made-up hosts would evict them.
        """
        domain = self.known.get(value)
        if domain is not None or not is_host(value):
            return domain
        header = value.decode("ascii")
        host = _host_of(header)
        domain = self._by_host.get(host)
        if domain is None:
            return self._of_unknown(host, header, count=count)
        domain = self._asked_by(header, domain)
        if len(self.known) >= _REMEMBERED:  # ports and capitals: those in use come back at once
            self.known.clear()
        self.known[value] = domain
        return domain

    def _of_unknown(self, host: str, header: str, *, count: bool) -> Domain:
        if self._rows is None:
            return self.default if host in {self._default_host, ""} else self._unread
        if count:
            self._unknown_hosts.note(header)
        if self._strange is None:
            return self._asked_by(header, self.default)
        return self._lost if host and host == self._strange_host else self._strange

    def _asked_by(self, header: str, domain: Domain) -> Domain:
        if not domain.doubtful:
            return domain
        row = next(row for row in self._rows or () if row.host == domain.host)
        return Domain(row, self._responses, self.own, asked=header)

    def _closed_by(self, response: Response) -> Domain:
        domain = Domain(DomainRow(""), self._responses, self.own)
        domain.closed = response
        return domain


def _host_of(header: str) -> str:
    try:
        return normalise_host(header)
    except ValueError:
        return ""
