"""Which addresses a webhook may be sent to: public ones, and those that the operator allows."""

import ipaddress
from collections.abc import Iterable

from shortcore.http.networks import Networks

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Listed, because the lists in Python's ipaddress differ between its releases.
_REFUSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers (RFC 6598)
            "127.0.0.0/8",
            "168.63.129.16/32",  # metadata of Azure's virtual machines
            "169.254.0.0/16",  # link-local, with the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
"""The special-purpose addresses of IPv4 (RFC 6890 and its registry), and multicast."""

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is global unicast: not loopback, link-local, unique local, mapped or NAT64."""

_REFUSED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, such as Teredo, which embeds IPv4 addresses
            "2001:db8::/32",
            "2002::/16",  # 6to4, which embeds IPv4 addresses
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)


class AddressPolicy:
    """Permits public addresses, and every address in `allowed` (networks or addresses).

    Public means unicast and globally reachable (the special-purpose registries of IANA): no private
    network, loopback, link-local, shared (RFC 6598), multicast, documentation or reserved address,
    and no IPv6 address that embeds an IPv4 address. Raises ConfigurationError for an invalid entry.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = Networks(allowed, "SHORTLINKS_WEBHOOKS_ALLOWED_NETWORKS")

    def permits(self, address: str) -> bool:
        """Return whether a webhook may be sent to `address`; False if it is not an IP address."""
        # getaddrinfo appends the interface to a link-local address: fe80::1%eth0.
        plain = address.partition("%")[0]
        if self._allowed.hold(plain):
            return True
        try:
            return is_public(ipaddress.ip_address(plain))
        except ValueError:
            return False


def is_public(address: Address) -> bool:
    """Return whether `address` is globally reachable unicast, and embeds no other address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)
