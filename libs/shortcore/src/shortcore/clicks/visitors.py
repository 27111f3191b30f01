"""Pseudonyms of visitors: no address leaves the redirector.

A click has a keyed hash of the client's network (/24 for IPv4, /48 for IPv6) under a key of the day.
So clicks of one network on one day can be linked, those of two days cannot. The holder of the code
secret could compute the hashes of all networks, so for the holder this is a pseudonym, not anonymity
(GDPR, recital 26).
"""

import socket
import time
from hashlib import blake2b

from shortcore.clicks.wire import VISITOR_BYTES

DAY_MS = 86_400_000


class Visitors:
    """Computes pseudonyms of networks for one day: `day` counts the days since 1970 (UTC)."""

    def __init__(self, secret: bytes, day: int) -> None:
        self.day = day
        date = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
        salt = blake2b(date.encode(), key=secret[:64], person=b"click visitors").digest()
        self._hash = blake2b(key=salt, digest_size=VISITOR_BYTES)

    def name(self, address: str) -> bytes:
        """Return the pseudonym of the address's network; empty for an invalid address."""
        network = _network(address)
        if not network:
            return b""
        digest = self._hash.copy()
        digest.update(network)
        return digest.digest()


def _network(address: str) -> bytes:
    try:
        if ":" in address:
            return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:6]
        return socket.inet_pton(socket.AF_INET, address)[:3]
    except OSError:
        return b""
