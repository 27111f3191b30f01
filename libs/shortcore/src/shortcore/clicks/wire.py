"""The wire form of clicks between a redirector and the worker, without personal data.

A batch is one entry (field `d`) of a click stream. All clicks of a link are in one stream.

No click is counted twice. If an XADD times out, the redirector does not know whether it was executed, so
it sends the batch again with the same `source` and `number`. It sends the batches of a stream one after
another, in the order of their numbers. The reader stores, with its position, the highest number of each
source and stream, and skips batches that are not above it: copies, and batches that arrive after the
redirector gave them up (and counted them as dropped). A gap between two numbers means batches that were
given up, or trimmed off the stream before they were read.

No address leaves the redirector. A click has a keyed hash of the client's network (/24 for IPv4, /48 for
IPv6) under a key of the day. So clicks of one network on one day can be linked, those of two days cannot.
The holder of the code secret could compute the hashes of all networks, so for the holder this is a
pseudonym, not anonymity (GDPR, recital 26).
"""

import enum
import socket
import time
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

FIELD = "d"
"""The field of a stream's entry that holds the batch."""

VISITOR_BYTES = 8
DAY_MS = 86_400_000


class Flag(enum.IntFlag):
    """Reasons why a click is not a person's visit; the numbers are part of the wire format."""

    BOT = 1
    HEAD = 2
    PREFETCH = 4
    """A browser or a preview requested the link without a click."""
    EXPIRED = 8
    """The link had expired, and the visitor was sent to its `expired_target`."""


class Click(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One redirect of the link `link_id`, parsed at `at_ms` (Unix ms), about 2 ms after the response.

    `referrer` is a host or empty. `agent` is a class (`redirector.clicks.user_agent`), never the
    header itself. `visitor` has VISITOR_BYTES bytes, or none if the address is unknown. New fields go
    to the end and have a default, so that older and newer versions read each other's clicks.
    """

    link_id: int
    at_ms: int
    flags: int
    referrer: str
    agent: str
    visitor: bytes


class ClickBatch(msgspec.Struct, frozen=True, array_like=True):
    """The batch `number` of the process `source` (random bytes) in one stream."""

    source: bytes
    number: int
    clicks: Sequence[Click]


class CorruptBatch(ValueError):
    """The bytes of an entry are not a batch."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ClickBatch)


def encode_batch(batch: ClickBatch) -> bytes:
    """Return the bytes for a stream: about 60 per click."""
    return _encoder.encode(batch)


def decode_batch(data: bytes) -> ClickBatch:
    """Return the batch; raises CorruptBatch for bytes that encode_batch cannot return."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptBatch(str(error)) from error


def partition_of(link_id: int, partitions: int) -> int:
    """Return the number of the stream of a link's clicks; consecutive ids fill all streams evenly."""
    return link_id % partitions


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
