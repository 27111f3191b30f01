"""Detects redirects that would lead back to the redirector, from the target alone if possible.

A target on a host of the domain table is another short link, or a page that the writer would have
refused; it is never followed. Some other hosts may lead back as well: addresses, `localhost`, names
without a dot, and `www.` before a host of the table. For these, the result depends on the request:
a redirect to the host in its Host header leads back. Use `leads` when a response is prepared, and
`leads_back` when a request is answered.
"""

import enum
import re
from collections.abc import Iterable
from typing import NamedTuple

from ada_url import parse_url

from shortcore.links.loopback import address_of, is_loopback

_PLACE = re.compile(r"(https?)://((?:[a-z0-9_-]+\.)+[a-z]+)(?::([0-9]{1,5}))?(?=[/?#]|\Z)")
_WEB = re.compile(r"https?:", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_MAX_HEADER = 300
_AFTER_SLASHES = len("https://")
_REMEMBERED = 4096
_MAX_REMEMBERED = 128
_FEW = 4


class Leads(enum.Enum):
    """Where a target leads."""

    ELSEWHERE = "elsewhere"
    HERE = "here"
    """To a host of short links."""
    PERHAPS = "perhaps"
    """To a host that may lead to this server: `leads_back` decides for each request."""


class Place(NamedTuple):
    """A host without a final dot, and a port; 0 if none is given and the scheme is unknown."""

    host: str
    port: int


class OwnHosts:
    """The hosts of short links, and a cache of the results for targets."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(hosts)
        near = {f"www.{host}" for host in self._hosts}
        self._near = near | {host.removeprefix("www.") for host in self._hosts}
        self._known: dict[str, Leads] = {}
        names = {host.removeprefix("www.") for host in self._hosts}
        self.suspicious = (*names, "\r", "\n") if len(names) <= _FEW else ("",)
        """Every target on one of these hosts, or on a similar host, contains one of these texts.

        Line breaks are included, because a client with write access to Redis could inject them into
        a header. With many hosts it is the empty text, which every target contains.
        """

    def leads(self, target: str) -> Leads:
        """Return where `target` leads, without knowledge of the request."""
        # Up to the slash that ends the authority. With more slashes in front this is no URL.
        start = target[: target.find("/", _AFTER_SLASHES) + 1]
        known = self._known.get(start)
        if known is None:
            place = place_of(start)
            known = self._decide(place or place_of(target))
            if place is not None and len(start) <= _MAX_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[start] = known
        return known

    def _decide(self, place: Place | None) -> Leads:
        if place is None:
            return Leads.ELSEWHERE
        host = place.host
        if host in self._hosts:
            return Leads.HERE
        local = "." not in host or host.endswith(".localhost") or address_of(host) is not None
        return Leads.PERHAPS if local or host in self._near else Leads.ELSEWHERE

    def leads_back(self, target: str, asked: str) -> bool:
        """Return whether `target` leads back for a request with the Host header `asked`."""
        leads = self.leads(target)
        if leads is not Leads.PERHAPS:
            return leads is Leads.HERE
        to = place_of(target)
        here = place_of(f"http://{asked}") if len(asked) <= _MAX_HEADER else None
        return to is not None and here is not None and _are_one(to, here, asked)


def place_of(url: str) -> Place | None:
    """Return where a web URL leads, in the URL Standard's spelling; None for any other URL."""
    plain = _PLACE.match(url)
    if plain is not None:
        return Place(plain[2], int(plain[3] or _PORTS[plain[1]]))
    if not _WEB.match(url):
        return None
    try:
        read = parse_url(url, ("protocol", "hostname", "port"))
    except ValueError:
        return None
    scheme = read["protocol"].removesuffix(":")
    return Place(read["hostname"].rstrip("."), int(read["port"] or _PORTS[scheme]))


def _are_one(to: Place, here: Place, asked: str) -> bool:
    local = is_loopback(to.host) and is_loopback(here.host)
    if not local and to.host != here.host:
        return False
    if re.search(r":[0-9]+\Z", asked):
        return to.port == here.port
    # Without a port the scheme is unknown, or a proxy took the port off. One address can have many
    # servers; a name that brought the visitor here is one of ours on any port.
    return to.port in _PORTS.values() or not (local or address_of(to.host))
