"""The pseudonym of a visitor: an address's network under the key of a day."""

import pytest

from shortcore.clicks.visitors import Visitors
from shortcore.clicks.wire import VISITOR_BYTES

SECRET = b"0123456789abcdef0123456789abcdef"


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
