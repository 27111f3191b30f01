"""The wire form of clicks, which contains no address."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from shortcore.clicks.wire import (
    MAX_AGENT,
    MAX_BYTES,
    MAX_CAMPAIGN,
    MAX_CLICKS,
    MAX_HOST,
    VISITOR_BYTES,
    Click,
    ClickBatch,
    CorruptBatch,
    Flag,
    decode_batch,
    encode_batch,
    partition_of,
)

FORM_1 = bytes.fromhex(
    "93c40c3031323334353637383961620792"
    "96ce3b9aca07cf000001a3185c507b00ac6e6577732e6578616d706c65b16368726f6d652f696f732f6d6f62696c65"
    "c4080102030405060708"
    "960ccf000001a3185c507d03a0a3626f74c400"
)
"""A batch as redirectors sent it before form 2. These bytes never change."""

FORM_2 = (
    "029fc40c3031323334353637383961620703cf000001a3185c507b9291ce3b9aca07c4009293000200c4009291"
    "00c4009291c4080001020304050607c4009292d9764d6f7a696c6c612f352e3020284c696e75783b20416e6472"
    "6f69642031353b20534d2d473939314229204170706c655765624b69742f3533372e333620284b48544d4c2c20"
    "6c696b65204765636b6f29204368726f6d652f3134302e302e302e30204d6f62696c65205361666172692f3533"
    "372e3336a56f74686572c4030001009291ac6e6577732e6578616d706c65c4009291a544452d4245c4009291a2"
    "6465c400929193a46e657773a6652d6d61696ca6737072696e67c4009291aa676f2e6578616d706c65c4009291"
    "a0c400"
)

AGENT = (
    "Mozilla/5.0 (Linux; Android 15; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Mobile Safari/537.36"
)
CLICK = Click(
    1_000_000_007,
    1_800_000_000_123,
    0,
    bytes(range(8)),
    AGENT,
    "news.example",
    "DE",
    "BE",
    "de",
    "news",
    "e-mail",
    "spring",
    "go.example",
)


def texts(most):
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=most)


clicks = st.builds(
    Click,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**47 - 1),
    st.integers(0, 15),
    st.binary(max_size=VISITOR_BYTES),
    texts(MAX_AGENT),
    texts(MAX_HOST),
    st.from_regex(r"[A-Z]{2}", fullmatch=True),
    st.from_regex(r"([A-Z0-9]{1,3})?", fullmatch=True),
    texts(3),
    *[texts(MAX_CAMPAIGN)] * 3,
    texts(MAX_HOST),
    texts(MAX_CAMPAIGN),
)
batches = st.builds(
    ClickBatch,
    st.binary(max_size=32),
    st.integers(1, 2**63 - 1),
    st.lists(clicks, min_size=1, max_size=10),
)


@given(batches)
def test_a_batch_reads_as_it_was_written(batch):
    assert decode_batch(encode_batch(batch)) == batch


@pytest.mark.parametrize("size", [1, 2, 256, 257, 300, MAX_CLICKS])
@pytest.mark.parametrize("different", [1, 2, 256, 257, MAX_CLICKS])
def test_a_batch_of_any_size_reads_as_it_was_written(size, different):
    sent = [
        replace(CLICK, link_id=each % different, agent=f"{each % different}")
        for each in range(size)
    ]
    batch = ClickBatch(b"s" * 12, 1, sent)
    assert decode_batch(encode_batch(batch)) == batch


def test_a_batch_of_form_1_is_still_read():
    first = Click(
        1_000_000_007,
        1_800_000_000_123,
        0,
        bytes(range(1, 9)),
        "chrome/ios/mobile",
        "news.example",
    )
    second = Click(12, 1_800_000_000_125, Flag.BOT | Flag.HEAD, b"", "bot")
    assert decode_batch(FORM_1) == ClickBatch(b"0123456789ab", 7, [first, second], form=1)


def test_the_bytes_of_form_2_never_change():
    second = replace(CLICK, at_ms=CLICK.at_ms + 2, agent="other")
    batch = ClickBatch(b"0123456789ab", 7, [CLICK, second, CLICK])
    assert encode_batch(batch).hex() == FORM_2
    assert decode_batch(bytes.fromhex(FORM_2)) == batch


def decodes_or_is_corrupt(data):
    try:
        batch = decode_batch(data)
    except CorruptBatch:
        return
    assert isinstance(batch, ClickBatch)
    assert len(batch.clicks) <= MAX_CLICKS
    for click in batch.clicks:
        assert type(click.link_id) is type(click.at_ms) is type(click.flags) is int
        assert 0 <= click.at_ms < 2**48
        assert len(click.visitor) <= VISITOR_BYTES
        assert len(click.agent) <= MAX_AGENT
        assert len(click.referrer) <= MAX_HOST
        assert len(click.campaign) <= MAX_CAMPAIGN


@given(st.binary())
@example(b"")
@example(b"\x02")
def test_invalid_bytes_raise_corrupt_batch_and_nothing_else(data):
    decodes_or_is_corrupt(data)
    decodes_or_is_corrupt(b"\x02" + data)


@given(batches, st.data())
def test_a_damaged_batch_is_corrupt_or_within_all_bounds(batch, data):
    for whole in (encode_batch(batch), FORM_1):
        at = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(CorruptBatch):
            decode_batch(whole[:at])
        mutated = bytearray(whole)
        mutated[at] = data.draw(st.integers(0, 255))
        decodes_or_is_corrupt(bytes(mutated))
        decodes_or_is_corrupt(whole + bytes([mutated[at]]))


def body(batch):
    return msgspec.msgpack.decode(encode_batch(batch)[1:])


@pytest.mark.parametrize("indices", [b"\x02\x00\x00", b"\x00", b"\x00\x01\x00\x01", b""])
@pytest.mark.parametrize("column", range(4, 15))
def test_a_column_must_fit_the_batch(column, indices):
    fields = body(ClickBatch(b"s", 1, [CLICK] * 3))
    fields[column][0] *= 2
    fields[column][1] = indices
    with pytest.raises(CorruptBatch):
        decode_batch(b"\x02" + msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (4, -1),
        (4, 2**63),
        (5, 2**47),
        (6, -1),
        (7, bytes(VISITOR_BYTES + 1)),
        (8, "a" * (MAX_AGENT + 1)),
        (9, "a" * (MAX_HOST + 1)),
        (10, "GERM"),
        (10, "DE-"),
        (10, "DE-BERL"),
        (10, "-BE"),
        (10, "DE\n"),
        (11, "germ"),
        (12, ["a" * (MAX_CAMPAIGN + 1), "", ""]),
        (12, ["", "", "a" * (MAX_CAMPAIGN + 1)]),
        (12, ["", ""]),
        (13, "a" * (MAX_HOST + 1)),
        (14, "a" * (MAX_CAMPAIGN + 1)),
        (14, 1),
        (14, None),
    ],
)
def test_a_value_out_of_bounds_makes_a_batch_corrupt(column, value):
    fields = body(ClickBatch(b"s", 1, [CLICK]))
    fields[column][0][0] = value
    with pytest.raises(CorruptBatch):
        decode_batch(b"\x02" + msgspec.msgpack.encode(fields))


def test_a_column_that_a_newer_version_adds_is_ignored():
    batch = ClickBatch(b"s", 1, [CLICK])
    assert decode_batch(encode_batch(batch)) == batch
    assert decode_batch(b"\x02" + msgspec.msgpack.encode([*body(batch), [["new"], b""]])) == batch


def test_a_batch_of_form_1_is_bounded_too():
    click = [1, 1_800_000_000_000, 0, "", "bot", b""]
    for corrupt in (
        [click] * (MAX_CLICKS + 1),
        [[*click[:4], "a" * (MAX_AGENT + 1), b""]],
        [[-1, *click[1:]]],
    ):
        with pytest.raises(CorruptBatch):
            decode_batch(msgspec.msgpack.encode([b"s", 1, corrupt]))


def test_too_many_clicks_and_too_many_bytes_are_refused_before_they_are_read():
    fields = body(ClickBatch(b"s", 1, [CLICK]))
    fields[2] = MAX_CLICKS + 1
    with pytest.raises(CorruptBatch):
        decode_batch(b"\x02" + msgspec.msgpack.encode(fields))
    with pytest.raises(CorruptBatch, match=str(MAX_BYTES)):
        decode_batch(FORM_1 + bytes(MAX_BYTES))


def per_click(*sent):
    one, ten = (len(encode_batch(ClickBatch(b"s" * 12, 1, sent * each))) for each in (10, 100))
    return (ten - one) / 90 / len(sent)


def test_a_repeated_agent_takes_one_byte_per_click():
    agents = [f"{AGENT} {each}" for each in range(50)]
    assert per_click(*(replace(CLICK, agent=each) for each in agents)) <= 1


def test_a_typical_click_takes_less_than_40_bytes():
    """Form 1 took 60 bytes for a class instead of the agent's text."""
    sent = [
        replace(
            CLICK,
            link_id=10**6 + each % 200,
            at_ms=CLICK.at_ms + each // 3,
            visitor=each.to_bytes(VISITOR_BYTES, "big"),
            agent=f"{AGENT} {each % 50}",
            referrer=f"{each % 20}.example",
            country="DEFRUSGB"[each % 4 * 2 :][:2],
        )
        for each in range(500)
    ]
    assert len(encode_batch(ClickBatch(b"s" * 12, 1, sent))) / len(sent) < 40


def test_the_numbers_of_flags_never_change():
    assert [(flag.name, flag.value) for flag in Flag] == [
        ("BOT", 1), ("HEAD", 2), ("PREFETCH", 4), ("EXPIRED", 8),
    ]  # fmt: skip


@given(st.integers(0, 2**53), st.integers(1, 64))
def test_a_link_has_one_partition(link_id, partitions):
    assert 0 <= partition_of(link_id, partitions) < partitions
