"""The queue of password checks: links, networks and clients take turns, and all of it is bounded."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redirector.passwords.turns import Limits, Place, Turns
from shortcore.http.networks import network_of

WIDE = Limits(1000, 1000, 1000, 1000)


def fill(turns: Turns[str], *names: str) -> list[str | None]:
    """Put items called link/network/client/number; returns what each put dropped."""
    return [turns.put(Place(*name.split("/")[:3]), name) for name in names]


def drain(turns: Turns[str], link: str) -> list[str]:
    found = []
    while (item := turns.take(link)) is not None:
        found.append(item)
    return found


def test_networks_take_turns_and_so_do_the_clients_of_one() -> None:
    turns: Turns[str] = Turns(WIDE)
    fill(turns, "l/a/1/1", "l/a/1/2", "l/a/2/1", "l/a/2/2", "l/b/1/1", "l/b/1/2", "m/a/1/1")
    expected = ["l/a/1/1", "l/b/1/1", "l/a/2/1", "l/b/1/2", "l/a/1/2", "l/a/2/2"]
    assert drain(turns, "l") == expected
    assert len(turns) == 1


def test_a_newcomer_waits_one_round_however_much_the_others_wait_for() -> None:
    turns: Turns[str] = Turns(WIDE)
    fill(turns, *(f"l/{network}/1/{n}" for n in range(10) for network in range(30)))
    fill(turns, "l/honest/1/1")
    assert drain(turns, "l").index("l/honest/1/1") == 30


def test_a_full_queue_drops_the_newest_of_the_longest_line() -> None:
    turns: Turns[str] = Turns(Limits(1000, 4, 1000, 1000))
    fill(turns, "l/a/1/1", "l/a/1/2", "l/a/1/3", "l/b/1/1")
    assert fill(turns, "l/c/1/1") == ["l/a/1/3"]
    assert fill(turns, "l/d/1/1") == ["l/a/1/2"]
    assert fill(turns, "l/e/1/1") == ["l/e/1/1"]  # every line is as short
    assert fill(turns, "l/a/1/4") == ["l/a/1/4"]


def test_links_that_are_guessed_at_leave_room_for_another() -> None:
    turns: Turns[str] = Turns(Limits(8, 4, 1000, 1000))
    fill(turns, *(f"{link}/{network}/1/1" for link in "lm" for network in "abcd"))
    assert fill(turns, "honest/a/1/1") == ["l/d/1/1"] or len(turns) == 8
    assert drain(turns, "honest") == ["honest/a/1/1"]


@pytest.mark.parametrize("limits", [Limits(9, 9, 9, 2), Limits(9, 9, 2, 9)])
def test_one_client_and_one_network_have_a_bound_of_their_own(limits: Limits) -> None:
    turns: Turns[str] = Turns(limits)
    assert fill(turns, "l/a/1/1", "l/a/1/2", "l/a/1/3") == [None, None, "l/a/1/3"]
    assert fill(turns, "l/b/1/1") == [None]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from("lmn"), st.sampled_from("abc"),
                      st.sampled_from("123")),
            st.tuples(st.just("take"), st.sampled_from("lmn")),
            st.tuples(st.just("remove"), st.integers(0, 200)),
        ),
        max_size=200,
    )
)  # fmt: skip
def test_it_never_holds_more_than_its_limits_and_loses_nothing(steps: list[tuple]) -> None:
    limits = Limits(12, 6, 4, 2)
    turns: Turns[int] = Turns(limits)
    waiting: dict[int, Place] = {}
    for number, (what, *names) in enumerate(steps):
        if what == "put":
            place = Place(*names)
            dropped = turns.put(place, number)
            waiting[number] = place
            if dropped is not None:
                del waiting[dropped]
        elif what == "take":
            taken = turns.take(names[0])
            if taken is None:
                assert names[0] not in {place.link for place in waiting.values()}
            else:
                assert waiting.pop(taken).link == names[0]
        elif names[0] in waiting:
            turns.remove(waiting.pop(names[0]), names[0])
        assert len(turns) == len(waiting) <= limits.total
        for depth, most in enumerate(limits[1:], 1):
            sizes = Counter(place[:depth] for place in waiting.values())
            assert max(sizes.values(), default=0) <= most
    for link in "lmn":
        while (taken := turns.take(link)) is not None:
            del waiting[taken]
    assert not waiting
    assert len(turns) == 0
    assert not turns._root.branches


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113"),
        ("2001:db8:1:2::7", "2001:db8:1::"),
        ("unknown", "unknown"),
    ],
)
def test_a_network_is_a_24_or_a_48(address: str, network: str) -> None:
    assert network_of(address) == network
