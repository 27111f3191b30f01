"""Loopback names and addresses, all of which are one host: the client's own machine."""

import ipaddress
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback name or address, or an unspecified address such as 0.0.0.0.

    `host` is in the URL Standard's spelling, without a final dot.
    """
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = address_of(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def address_of(host: str) -> Address | None:
    """Return the IP address that `host` is, or None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
