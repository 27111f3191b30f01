"""Finds the address of a client behind trusted proxies."""

import ipaddress
import socket
from collections.abc import Iterable

from shortcore.http.networks import Networks

MAX_HOPS = 32
"""Entries of `X-Forwarded-For` that are read, from its end."""


class ClientAddresses:
    """Reads `X-Forwarded-For` from its end, up to the first hop that is not in `trusted`.

    Raises ConfigurationError for an entry that is neither an address nor a network.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusts = Networks(trusted, "SHORTLINKS_TRUSTED_PROXIES").hold

    def address(self, peer: str | None, forwarded: str) -> str:
        """Return the first address from the right that is not a trusted proxy.

        The entries to the left of it cannot be trusted. An entry that is not an address ends the
        search; the last trusted hop before it is then returned.
        """
        address = _read(peer or "")
        if address is None:
            return "unknown"
        entries = forwarded.rsplit(",", MAX_HOPS) if forwarded else []
        for text in entries[: -MAX_HOPS - 1 : -1]:
            if not self._trusts(address):
                break
            hop = _read(text.strip())
            if hop is None:
                break
            address = hop
        return address

    def trusts(self, address: str) -> bool:
        """Return whether `address` is a trusted proxy, in any form that `address()` reads."""
        read = _read(address)
        return read is not None and self._trusts(read)

    def trusted_hops(self, peer: str, forwarded: str, most: int) -> int:
        """Return the number of consecutive trusted proxies, from the peer back: at most `most`.

        `forwarded` is `X-Forwarded-For`. Hops that it does not name are not counted.
        """
        hops = 0
        address = _read(peer)
        left = forwarded
        while hops < most and address is not None and self._trusts(address):
            hops += 1
            left, _, last = left.rpartition(",")
            address = _read(last.strip())
        return hops


def _read(text: str) -> str | None:
    """Return the normal form of an address; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return _read_other(text)
    return text  # the form that nearly all have, and ten times faster than to make an object


def _read_other(text: str) -> str | None:
    # Some proxies write a port: 192.0.2.1:4711 or [2001:db8::1]:4711.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
