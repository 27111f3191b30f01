import contextlib
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcore.cache.record import MAX_VERSION, CorruptRecord, decode_record, encode_record
from shortcore.links.record import Kind, LinkRecord, absent

texts = st.text(max_size=40)
instants = st.none() | st.integers(0, 2**52)
records = st.builds(
    LinkRecord,
    version=st.integers(1, MAX_VERSION),
    kind=st.sampled_from(Kind),
    link_id=st.integers(0, 2**63 - 1),
    target=texts,
    redirect_status=st.sampled_from([301, 302, 307, 308]),
    valid_from_ms=instants,
    expires_at_ms=instants,
    expired_target=st.none() | texts,
    limited=st.booleans(),
    password_hash=st.none() | texts,
    forward_query=st.booleans(),
    forward_path=st.booleans(),
    title=st.none() | texts,
    created_at_ms=st.integers(0, 2**52),
)


class Newer(LinkRecord, frozen=True, array_like=True):
    colour: str = "none"


@given(records)
def test_a_record_survives_the_wire(record):
    data = encode_record(record)
    assert decode_record(data) == record
    assert struct.unpack(">Q", data[:8]) == (record.version,)


def test_a_negative_entry_is_eight_zero_bytes():
    assert encode_record(absent()) == bytes(8)
    assert decode_record(bytes(8)) == absent()


@given(records)
def test_older_and_newer_redirectors_read_each_others_records(record):
    newer = Newer(*msgspec.structs.astuple(record), colour="red")
    wire = struct.pack(">Q", record.version) + msgspec.msgpack.encode(newer)
    assert decode_record(wire) == record
    read = msgspec.msgpack.decode(encode_record(record)[8:], type=Newer)
    assert (read.version, read.target, read.colour) == (record.version, record.target, "none")


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_raise_corrupt_record(data):
    try:
        record = decode_record(data)
    except CorruptRecord:
        return
    assert record.version == int.from_bytes(data[:8], "big")


@given(records, st.data())
def test_a_damaged_record_is_corrupt_or_keeps_its_version(record, data):
    wire = bytearray(encode_record(record))
    wire[data.draw(st.integers(8, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(CorruptRecord):
        assert decode_record(bytes(wire)).version == record.version


@given(records, st.integers(0, 7))
def test_a_truncated_record_is_corrupt(record, kept):
    with pytest.raises(CorruptRecord):
        decode_record(encode_record(record)[:kept])


def test_a_prefix_with_another_version_is_corrupt():
    wire = encode_record(LinkRecord(7, Kind.ACTIVE, target="https://a.example/"))
    with pytest.raises(CorruptRecord):
        decode_record(struct.pack(">Q", 8) + wire[8:])


def test_a_version_above_the_range_of_lua_is_corrupt():
    assert decode_record(encode_record(LinkRecord(MAX_VERSION, Kind.ACTIVE)))
    with pytest.raises(CorruptRecord, match="above"):
        decode_record(encode_record(LinkRecord(MAX_VERSION + 1, Kind.ACTIVE)))


def test_an_unknown_kind_is_corrupt():
    wire = struct.pack(">Q", 7) + msgspec.msgpack.encode([7, 99])
    with pytest.raises(CorruptRecord):
        decode_record(wire)
