"""Trusted networks, and the part of an address that identifies one client."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from shortcore.errors import ConfigurationError

_REMEMBERED = 1024
"""Size of the cache of checked addresses: most checks are about the same few proxies."""


class Networks:
    """A set of addresses and networks.

    Raises ConfigurationError, which names `setting`, for an entry that is neither.
    """

    def __init__(self, entries: Iterable[str], setting: str) -> None:
        try:
            self._networks = [ipaddress.ip_network(text, strict=False) for text in entries]
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {error}") from error
        self.hold = lru_cache(_REMEMBERED)(self._hold)

    def _hold(self, address: str) -> bool:
        """Return whether `address` is in one of the networks; False for an invalid address."""
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return False
        # A socket that listens on IPv6 shows an IPv4 peer as ::ffff:192.0.2.1.
        read = getattr(read, "ipv4_mapped", None) or read
        return any(read in network for network in self._networks)


def client_of(address: str) -> str:
    """Return the part of an address that identifies a client: an IPv4 address, or an IPv6 /64.

    One client usually has a whole /64, and can change the lower half of its address at will. Text
    without a colon is returned unchanged.
    """
    if ":" not in address:
        return address
    read = ipaddress.IPv6Address(address)
    return str(read.ipv4_mapped or ipaddress.IPv6Address(read.packed[:8] + bytes(8)))


def network_of(address: str) -> str:
    """Return the network that one organisation usually has: an IPv4 /24, or an IPv6 /48."""
    if ":" in address:
        return str(ipaddress.IPv6Network((address, 48), strict=False).network_address)
    return address.rpartition(".")[0] or address
