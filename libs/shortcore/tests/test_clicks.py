"""The wire form of clicks, which contains no address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcore.clicks.wire import (
    VISITOR_BYTES,
    Click,
    ClickBatch,
    CorruptBatch,
    Flag,
    Visitors,
    decode_batch,
    encode_batch,
    partition_of,
)

SECRET = b"0123456789abcdef0123456789abcdef"

clicks = st.builds(
    Click,
    st.integers(0, 2**53),
    st.integers(0, 2**45),
    st.integers(0, 15),
    st.text(),
    st.text(),
    st.binary(max_size=VISITOR_BYTES),
)


@given(st.builds(ClickBatch, st.binary(), st.integers(1, 2**53), st.lists(clicks)))
def test_a_batch_reads_as_it_was_written(batch):
    assert decode_batch(encode_batch(batch)) == batch


@given(st.binary())
def test_invalid_bytes_raise_corrupt_batch_and_nothing_else(data):
    try:
        batch = decode_batch(data)
    except CorruptBatch:
        return
    assert isinstance(batch, ClickBatch)


def test_a_click_takes_less_than_70_bytes():
    click = Click(
        10**9, 1_800_000_000_000, Flag.HEAD, "news.example", "chrome/ios/mobile", b"x" * 8
    )
    one, two = (len(encode_batch(ClickBatch(b"s" * 12, 1, [click] * n))) for n in (1, 2))
    assert two - one < 70


def test_the_numbers_of_flags_never_change():
    assert [(flag.name, flag.value) for flag in Flag] == [
        ("BOT", 1), ("HEAD", 2), ("PREFETCH", 4), ("EXPIRED", 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1:2::3", "2001:db8:1:ffff::1", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_the_name_of_a_visitor_depends_on_the_network_alone(one, other, same):
    visitors = Visitors(SECRET, 20_000)
    assert len(visitors.name(one)) == VISITOR_BYTES
    assert (visitors.name(one) == visitors.name(other)) is same


def test_a_visitor_has_another_name_on_another_day_and_under_another_secret():
    names = {
        Visitors(secret, day).name("192.0.2.1")
        for secret in (SECRET, SECRET[::-1])
        for day in (20_000, 20_001)
    }
    assert len(names) == 4
    assert Visitors(SECRET, 20_000).name("192.0.2.1") in names


def test_an_invalid_address_has_no_name():
    assert {Visitors(SECRET, 1).name(text) for text in ("unknown", "", "1.2.3", ":::")} == {b""}


@given(st.integers(0, 2**53), st.integers(1, 64))
def test_a_link_has_one_partition(link_id, partitions):
    assert 0 <= partition_of(link_id, partitions) < partitions
