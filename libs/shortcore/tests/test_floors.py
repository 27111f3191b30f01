"""The table of floors: every floor is correct, and the newest ones are kept."""

import sys

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shortcore.cache.floors import Floors
from shortcore.links.record import LinkKey

KEYS = st.builds("go.example/{}".format, st.integers(0, 15)).map(LinkKey)
"""As many as one bucket holds: none of them is ever pushed out."""


class Machine(RuleBasedStateMachine):
    """The model: a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.floors = Floors(8)
        self.told: dict[LinkKey, int] = {}

    @rule(key=KEYS, version=st.integers(1, 2**63 - 1))
    def remember(self, key: LinkKey, version: int) -> None:
        self.floors.remember(key, version)
        self.told[key] = version

    @rule(key=KEYS)
    def forget(self, key: LinkKey) -> None:
        self.floors.forget(key)
        self.told.pop(key, None)

    @invariant()
    def remembers_all(self) -> None:
        for number in range(16):
            key = LinkKey(f"go.example/{number}")
            assert self.floors.get(key) == self.told.get(key, 0)


TestLaws = Machine.TestCase
TestLaws.settings = hypothesis.settings(max_examples=100, stateful_step_count=50)


def keys(count: int) -> list[LinkKey]:
    return [LinkKey(f"go.example/{number}") for number in range(count)]


def test_the_newest_floors_are_kept_whatever_came_before_them():
    floors = Floors(1000)
    told = keys(20_000)
    for version, key in enumerate(told, 1):
        floors.remember(key, version)
    found = [floors.get(key) for key in told]
    assert all(floor in (0, version) for version, floor in enumerate(found, 1))
    assert sum(floor > 0 for floor in found[-1000:]) >= 970
    assert sum(floor > 0 for floor in found[-300:]) == 300


def test_a_key_that_changes_often_evicts_no_other_floor():
    floors = Floors(8)
    told = keys(16)
    for version, key in enumerate(told, 1):
        floors.remember(key, version)
    for version in range(100, 200):
        floors.remember(told[3], version)
        floors.forget(told[5])
        floors.remember(told[5], version)
    assert [floors.get(key) > 0 for key in told] == [True] * 16


def test_a_floor_takes_at_most_40_bytes():
    assert sys.getsizeof(Floors(100_000)._table) <= 40 * 100_000
