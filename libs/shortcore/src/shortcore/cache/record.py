"""The wire form of a record in Redis: 8-byte big-endian version, then MessagePack.

The version comes first, so that a script can compare it without decoding the rest. A negative entry
is eight zero bytes.
"""

import struct

import msgspec

from shortcore.links.record import LinkRecord, absent

_VERSION = struct.Struct(">Q")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LinkRecord)
_ABSENT = absent()

MAX_VERSION = 2**53
"""The largest version: Lua's numbers are doubles, which compare exactly up to this one."""


class CorruptRecord(ValueError):
    """The value of a key is not a record; treat it as a miss."""


def encode_record(record: LinkRecord) -> bytes:
    """Return the bytes to keep in Redis."""
    head = _VERSION.pack(record.version)
    return head + _encoder.encode(record) if record.version else head


def decode_record(data: bytes) -> LinkRecord:
    """Return the record; raises CorruptRecord for anything that encode_record cannot make."""
    try:
        (version,) = _VERSION.unpack_from(data)
        if version == 0:
            return _ABSENT
        record = _decoder.decode(memoryview(data)[8:])
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecord(str(error)) from error
    if version > MAX_VERSION:
        raise CorruptRecord(f"version {version} is above {MAX_VERSION}")
    if record.version != version:
        raise CorruptRecord(f"the prefix has version {version}, the record {record.version}")
    return record
