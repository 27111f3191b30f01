"""Finds the host that a visitor requested, if a trusted proxy rewrites Host and forwards it.

Only the part of a header that trusted proxies wrote is used. Its entries are read from the right:
the last entry comes from the peer, the one before it from the proxy before the peer, and so on
until a hop is not trusted.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from redirector.client_address import ClientAddresses
from redirector.rules.fields import field_value
from shortcore.http.framing import is_host
from shortcore.settings.redirector import ForwardedHeader

MAX_LENGTH = 2048
"""Bytes of a forwarded header; a longer one is malformed."""

MAX_HOPS = 16
"""Entries of a forwarded header; one with more is malformed."""

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = Iterable[Field]
Peer: TypeAlias = Any  # (address, port), or None for a Unix socket
Forwarded: TypeAlias = Callable[[list[Field], Peer], list[Field]]
"""Returns the fields of a request with the forwarded host as Host; raises MalformedError."""

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::[0-9]{1,5})?", re.ASCII)

# RFC 7239, section 4. Many proxies leave out the quotes that a port or an IPv6 address needs.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a name of the grammar
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*+"'
_PAIR = re.compile(rf"[ \t]*({_TOKEN})=({_QUOTED}|[^\s;,\"\\]*+)[ \t]*(?=[;,]|\Z)", re.ASCII)
_EMPTY = re.compile(r"[ \t]*(?=[;,]|\Z)")
_ESCAPED = re.compile(r"\\(.)")


class MalformedError(ValueError):
    """A trusted proxy forwards a value that is not a valid host."""


def make_forwarded(header: ForwardedHeader, client_addresses: ClientAddresses) -> Forwarded:
    """Return the function that takes the host of a request from `header`.

    The function does not change a request whose peer is not trusted or which lacks the header.
    Neither does it change a request with an invalid Host, which is refused in any case.
    """
    if header == "none":
        return lambda fields, _: fields
    read = _read_forwarded if header == "forwarded" else _read_forwarded_host
    name = header.encode()

    def forwarded(fields: list[Field], peer: Peer) -> list[Field]:
        address = peer[0] if peer else ""
        if not client_addresses.trusts(address):
            return fields
        value = field_value(fields, name)
        host = read(value, fields, address, client_addresses) if value else None
        if host is None:
            return fields
        replaced = [place for place, (key, _) in enumerate(fields) if key.lower() == b"host"]
        if all(is_host(fields[place][1].rstrip(b" \t")) for place in replaced):
            for place in replaced:
                fields[place] = fields[place][0], host.encode("ascii")
        return fields

    return forwarded


def _read_forwarded_host(
    value: str, fields: Fields, peer: str, client_addresses: ClientAddresses
) -> str:
    hosts = [host.strip(" \t") for host in _bounded(value).split(",")]
    if len(hosts) > MAX_HOPS:
        raise MalformedError
    hops = client_addresses.trusted_hops(peer, field_value(fields, b"x-forwarded-for"), len(hosts))
    return _checked(hosts[-hops])


def _read_forwarded(
    value: str, _: Fields, peer: str, client_addresses: ClientAddresses
) -> str | None:
    """Return the host in a Forwarded header (RFC 7239); None if the trusted part names none."""
    host: str | None = None
    hop: str | None = peer
    for element in reversed(parse_forwarded(value)):
        if hop is None or not client_addresses.trusts(hop):
            break
        host = element.get("host", host)
        hop = element.get("for")
    return None if host is None else _checked(host)


def parse_forwarded(value: str) -> Sequence[dict[str, str]]:
    """Return the parameters of each element; raises MalformedError."""
    elements: list[dict[str, str]] = [{}]
    at, text = 0, _bounded(value)
    while True:
        pair = _PAIR.match(text, at)
        if pair is not None:
            name, raw = pair[1].lower(), pair[2]
            if name in elements[-1]:
                raise MalformedError
            elements[-1][name] = _ESCAPED.sub(r"\1", raw[1:-1]) if raw.startswith('"') else raw
            at = pair.end()
        elif (empty := _EMPTY.match(text, at)) is not None:
            at = empty.end()
        else:
            raise MalformedError
        if at == len(text):
            return [element for element in elements if element]
        if text[at] == ",":
            elements.append({})
            if len(elements) > MAX_HOPS:
                raise MalformedError
        at += 1


def _bounded(value: str) -> str:
    if len(value) > MAX_LENGTH:
        raise MalformedError
    return value


def _checked(host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise MalformedError
    return host
