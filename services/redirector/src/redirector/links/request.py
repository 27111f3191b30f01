"""A request, as plain values of no framework."""

from collections.abc import AsyncIterable
from typing import TypeAlias

import msgspec

from redirector.domains.cache import Domain
from redirector.rules.fields import field_value

Headers: TypeAlias = list[tuple[bytes, bytes]]
Peer: TypeAlias = "tuple[str, int] | None"

READING_METHODS = frozenset({"GET", "HEAD"})


class Request(msgspec.Struct, gc=False, frozen=True):
    """A request for a short link.

    `target` is the path and the query as sent, still percent-encoded. `domain` is the domain that
    the Host header names. `peer` is the address of the TCP peer. `body` is None for GET and HEAD;
    it is read only if it should be the form of a password.
    """

    method: str
    target: str
    domain: Domain
    headers: Headers
    peer: Peer
    body: AsyncIterable[bytes] | None = None

    @property
    def host(self) -> str:
        """The value of the Host header."""
        return field_value(self.headers, b"host")
