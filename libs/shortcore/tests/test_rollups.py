"""Rollups add up, however clicks are split and in whatever order the parts are merged."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcore.clicks.rollups import (
    DIMENSIONS,
    OTHER,
    SLOT_MS,
    SLOTS,
    CorruptRollup,
    DayRollup,
    Kind,
    unique_visitors,
)

NO_BOUND = 10**6
NOTHING = [""] * len(DIMENSIONS)


def counted(clicks):
    rollup = DayRollup()
    for slot, values, visit, visitor in clicks:
        rollup.add(slot, values, visit=visit, visitor=visitor)
    return rollup


def merged(*rollups, max_values=NO_BOUND):
    whole = DayRollup()
    for rollup in rollups:
        whole.merge(rollup, max_values=max_values)
    return whole


def stored(rollup):
    return DayRollup.decode(rollup.clicks, rollup.visits, *rollup.encode())


def contents(rollup):
    """The rollup without the order in which it was counted."""
    return (
        rollup.clicks,
        rollup.visits,
        rollup.series,
        rollup.breakdowns,
        rollup.visitors.estimate(),
    )


def totals(pairs):
    return [sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)]


def visitor(number):
    return number.to_bytes(8, "big")


values = st.lists(
    st.sampled_from(["", "a", "b", "c", "dé", OTHER]) | st.text(max_size=3),
    min_size=len(DIMENSIONS),
    max_size=len(DIMENSIONS),
)
click = st.tuples(
    st.integers(0, SLOTS - 1),
    values,
    st.booleans(),
    st.just(b"") | st.binary(min_size=8, max_size=8),
)
clicks = st.lists(click, max_size=20)


@given(st.lists(clicks, max_size=4), st.randoms())
def test_any_parts_of_the_clicks_merged_in_any_order_are_the_whole(parts, random):
    whole = counted([click for part in parts for click in part])
    rollups = [counted(part) for part in parts]
    random.shuffle(rollups)
    assert contents(merged(*rollups)) == contents(whole)


@given(clicks, clicks, clicks)
def test_merging_is_associative_and_commutative(one, two, three):
    first = merged(merged(counted(one), counted(two)), counted(three))
    second = merged(counted(three), merged(counted(two), counted(one)))
    assert contents(first) == contents(second)


@given(clicks, clicks)
def test_merging_what_was_stored_is_merging_what_was_counted(one, two):
    row = stored(counted(one))
    row.merge(stored(counted(two)), max_values=NO_BOUND)
    assert contents(stored(row)) == contents(counted(one + two))


@given(clicks)
def test_a_rollup_reads_as_it_was_stored(some):
    rollup = counted(some)
    assert contents(stored(rollup)) == contents(rollup)


@given(clicks)
def test_the_series_adds_up_to_the_clicks_and_visits(some):
    rollup = counted(some)
    assert totals(rollup.series.values()) == [rollup.clicks, rollup.visits]
    assert rollup.clicks == len(some)
    assert rollup.visits == sum(1 for click in some if click[2])


@given(st.lists(clicks, max_size=4), st.integers(4, 8))
def test_sums_hold_and_the_bound_too_whatever_values_are_merged_into_other(parts, max_values):
    exact = merged(*map(counted, parts))
    bounded = merged(*map(counted, parts), max_values=max_values)
    for exactly, dimension in zip(exact.breakdowns, bounded.breakdowns, strict=True):
        assert totals(dimension.values()) == totals(exactly.values())
        assert len(dimension) <= max_values
        assert "" not in dimension
    assert bounded.series == exact.series


def test_the_values_with_the_fewest_visits_are_merged_into_other():
    rollup = DayRollup()
    for country, visits, bots in (
        ("DE", 5, 0),
        ("FR", 3, 0),
        ("IT", 1, 9),
        ("ES", 2, 0),
        ("PT", 1, 0),
    ):
        for visit in [True] * visits + [False] * bots:
            rollup.add(0, [country, *NOTHING[1:]], visit=visit, visitor=b"")
    whole = merged(rollup, max_values=4)
    assert whole.breakdowns[0] == {"DE": [5, 5], "FR": [3, 3], OTHER: [13, 4]}


def test_the_names_of_bots_are_kept_by_their_clicks():
    rollup = DayRollup()
    bot = DIMENSIONS.index("bot")
    for number, name in enumerate(["d", "c", "b", "a", "e"]):
        for _ in range(number + 1):
            rollup.add(0, [*NOTHING[:bot], name, ""], visit=False, visitor=b"")
    whole = merged(rollup, max_values=4)
    assert whole.breakdowns[bot] == {"e": [5, 0], "a": [4, 0], OTHER: [6, 0]}


def test_a_value_that_becomes_frequent_late_is_kept():
    row = DayRollup()
    for number in range(500):
        for _ in range(3):
            row.add(0, [f"early-{number}", *NOTHING[1:]], visit=True, visitor=b"")
    for window in range(100):
        delta = DayRollup()
        delta.add(0, ["late", *NOTHING[1:]], visit=True, visitor=b"")
        delta.add(0, [f"once-{window}", *NOTHING[1:]], visit=True, visitor=b"")
        row.merge(delta, max_values=500)
    assert row.breakdowns[0]["late"] >= [90, 90]


@given(clicks, clicks)
def test_the_rollup_that_is_merged_into_another_does_not_change(one, two):
    part, before = counted(one), contents(counted(one))
    whole = merged(part)
    whole.merge(counted(two), max_values=NO_BOUND)
    whole.merge(part, max_values=NO_BOUND)
    assert contents(part) == before


def test_a_click_that_is_no_visit_is_no_visitor():
    rollup = counted([(0, NOTHING, False, visitor(1)), (0, NOTHING, True, b"")])
    assert rollup.visitors.estimate() == 0
    assert rollup.encode()[2] == b""


@pytest.mark.parametrize("number", [1, 3, 50, 150])
def test_few_visitors_are_counted_exactly(number):
    rollup = counted([(0, NOTHING, True, visitor(i % number)) for i in range(3 * number)])
    assert rollup.visitors.estimate() == number


@pytest.mark.parametrize("number", [1000, 40_000])
def test_many_visitors_are_counted_within_three_standard_errors(number):
    streams = [DayRollup() for _ in range(4)]
    for i in range(number):
        streams[i % 4].add(0, NOTHING, visit=True, visitor=visitor(i))
        streams[i % 3].add(0, NOTHING, visit=True, visitor=visitor(i))
    sketches = [stream.encode()[2] for stream in streams]
    error = 3 * 1.04 / math.sqrt(2048)
    assert unique_visitors(sketches) == pytest.approx(number, rel=error)
    assert merged(*streams).visitors.estimate() == pytest.approx(number, rel=error)
    assert all(len(sketch) < 1200 for sketch in sketches)


def test_a_day_without_sketches_has_no_visitors():
    assert unique_visitors([]) == unique_visitors([b"", b""]) == 0


def test_a_part_that_was_not_read_is_empty():
    rollup = DayRollup.decode(7, 5, None, None, None)
    assert contents(rollup) == (7, 5, {}, [{} for _ in DIMENSIONS], 0)


def test_a_day_with_one_click_takes_less_than_100_bytes():
    seen = ["DE", "BE", "news.example", "Chrome", "Android", "mobile", "de", "", "", "", "", ""]
    rollup = counted([(40, seen, True, visitor(1))])
    assert sum(map(len, rollup.encode())) < 100


@given(st.binary(), st.sampled_from([0, 1, 2]))
def test_invalid_bytes_raise_corrupt_rollup_and_nothing_else(data, part):
    parts = [None, None, None]
    parts[part] = data
    try:
        rollup = DayRollup.decode(1, 1, *parts)
    except CorruptRollup:
        return
    contents(stored(rollup))


@given(st.data())
def test_a_changed_byte_of_a_sketch_is_noticed(data):
    sketch = counted([(0, NOTHING, True, visitor(i)) for i in range(300)]).encode()[2]
    place = data.draw(st.integers(0, len(sketch) - 1))
    changed = bytearray(sketch)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptRollup):
        unique_visitors([bytes(changed)])
    with pytest.raises(CorruptRollup):
        DayRollup.decode(1, 1, None, None, bytes(changed))


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_a_slot_outside_of_the_day_is_corrupt(slot):
    rollup = DayRollup()
    rollup.series[slot] = [1, 1]
    with pytest.raises(CorruptRollup):
        stored(rollup)


def test_rows_of_a_release_with_fewer_or_more_dimensions_are_read():
    fewer, more = DayRollup(), DayRollup()
    del fewer.breakdowns[-1]
    more.breakdowns.append({"new": [1, 1]})
    whole = merged(stored(fewer), stored(more))
    assert whole.breakdowns == [*[{} for _ in DIMENSIONS], {"new": [1, 1]}]
    assert stored(fewer).breakdowns == [{} for _ in DIMENSIONS]


def test_the_stored_numbers_never_change():
    assert {kind.name: kind.value for kind in Kind} == {
        "LINK": 1, "DOMAIN": 2, "TAG": 3, "OWNER": 4, "ALL": 5,
    }  # fmt: skip
    assert SLOT_MS * SLOTS == 86_400_000
    assert DIMENSIONS == (
        "country", "region", "referrer", "browser", "os", "device", "language",
        "source", "medium", "campaign", "bot", "rule",
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 95), st.sampled_from("ab"), st.booleans()), min_size=1))
def test_many_clicks_at_once_count_like_one_after_another(clicks):
    one_by_one, at_once = DayRollup(), DayRollup()
    values = [[value, "", *[value] * 10] for _, value, _ in clicks]
    visitors = [b"" if value == "a" else b"visitor%d" % slot for slot, value, _ in clicks]
    for (slot, _, visit), some, visitor in zip(clicks, values, visitors, strict=True):
        one_by_one.add(slot, some, visit=visit, visitor=visitor[:8])
    slots, _, visits = zip(*clicks, strict=True)
    at_once.add_all(slots, values, visits, [visitor[:8] for visitor in visitors])
    assert (at_once.clicks, at_once.visits) == (one_by_one.clicks, one_by_one.visits)
    assert at_once.series == one_by_one.series
    assert at_once.breakdowns == one_by_one.breakdowns
    assert at_once.visitors.estimate() == one_by_one.visitors.estimate()
