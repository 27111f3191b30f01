"""Who asks: the address of the client behind the proxies that we trust."""

import ipaddress
from collections.abc import Iterable

from shortcore.errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Clients:
    """Reads `X-Forwarded-For` from its end, as far as each hop is one of `trusted`.

    Raises ConfigurationError for what is no address or network.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        try:
            self._trusted = [ipaddress.ip_network(text, strict=False) for text in trusted]
        except ValueError as error:
            raise ConfigurationError(f"SHORTLINKS_TRUSTED_PROXIES: {error}") from error

    def address(self, peer: str | None, forwarded: str) -> str:
        """Return the first address from the right that is no trusted proxy of ours.

        What stands left of it was written by somebody we do not know. An entry that is no
        address ends the search: the hop before it is all that is certain.
        """
        address = _read(peer or "")
        if address is None:
            return "unknown"
        for text in reversed(forwarded.split(",")):
            if not self._trusts(address):
                break
            hop = _read(text.strip())
            if hop is None:
                break
            address = hop
        return str(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def household(address: str) -> str:
    """Return what one client can change at will masked away: the lower half of an IPv6."""
    read = _read(address)
    if isinstance(read, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((read, 64), strict=False).network_address)
    return address


def _read(text: str) -> Address | None:
    # Some proxies write a port: 192.0.2.1:4711 or [2001:db8::1]:4711.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
