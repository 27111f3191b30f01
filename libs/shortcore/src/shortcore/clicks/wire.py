"""Clicks on their way from a redirector to the worker: the wire form, and what it leaves out.

A batch is one entry (field `d`) of one click stream; a link's clicks are all in one stream.

Never twice: an XADD that timed out may or may not have been carried out, so the redirector sends
the batch again under the same `source` and `number`. It sends the batches of a stream one after
another, in the order of their numbers. The reader keeps, with its position, the highest number of
each source and stream, and refuses what is not above it: the copies, and a batch that arrives
after it was given up (and counted as dropped). A gap between numbers is batches that were given
up or trimmed off the stream before they were read.

No address leaves the redirector. What does is a keyed hash of the client's network (/24 of IPv4,
/48 of IPv6) under a key of the day: the clicks of one network on one day can be told to be of one
origin, those of two days cannot. Whoever holds the code secret could compute the hashes of all
networks again, so to them this is a pseudonym, not anonymity (GDPR, recital 26).
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
    """Why a click is no visit of a person; the numbers are on the wire and never change."""

    BOT = 1
    HEAD = 2
    PREFETCH = 4
    """A browser or a preview asked before, or without, anybody clicking."""
    EXPIRED = 8
    """The link was over, and the visitor sent to its `expired_target`."""


class Click(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One answered redirect of link `link_id`, read at `at_ms` (Unix ms), about 2 ms later.

    `referrer` is a host or empty, `agent` a class (`redirector.clicks.user_agent`), never what was sent.
    `visitor` is VISITOR_BYTES long, or empty where the address is not known. New fields go to
    the end and have a default, so that versions read each other's clicks.
    """

    link_id: int
    at_ms: int
    flags: int
    referrer: str
    agent: str
    visitor: bytes


class ClickBatch(msgspec.Struct, frozen=True, array_like=True):
    """Batch `number` of the process `source` (random bytes) in one stream."""

    source: bytes
    number: int
    clicks: Sequence[Click]


class CorruptBatch(ValueError):
    """The bytes of an entry are no batch."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ClickBatch)


def encode_batch(batch: ClickBatch) -> bytes:
    """Return the bytes for a stream: about 60 a click."""
    return _encoder.encode(batch)


def decode_batch(data: bytes) -> ClickBatch:
    """Return the batch; raises CorruptBatch for anything that encode_batch cannot make."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptBatch(str(error)) from error


def partition_of(link_id: int, partitions: int) -> int:
    """Return which stream holds a link's clicks; ids are dealt in order, so streams are even."""
    return link_id % partitions


class Visitors:
    """Names the origins of one day's clicks; `day` counts days since 1970 (UTC)."""

    def __init__(self, secret: bytes, day: int) -> None:
        self.day = day
        date = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
        salt = blake2b(date.encode(), key=secret[:64], person=b"click visitors").digest()
        self._hash = blake2b(key=salt, digest_size=VISITOR_BYTES)

    def name(self, address: str) -> bytes:
        """Return the name of the address's network; empty for what is no address."""
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
