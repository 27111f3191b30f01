"""The local cache: checked against a simple model, and its size."""

from collections.abc import Callable

import hypothesis
import pytest
from harness.clock import Clock
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shortcore.cache.local import ENTRY_OVERHEAD_BYTES, SECOND_CHANCES, LocalCache
from shortcore.links.record import Kind, LinkKey, LinkRecord, absent

TTL_S, NEGATIVE_TTL_S, STALE_S = 30.0, 5.0, 100.0
# As many entries as keys, so that no floor is dropped; MAX_BYTES causes the evictions.
MAX_ENTRIES, MAX_BYTES = 8, 5 * ENTRY_OVERHEAD_BYTES
KEYS = st.sampled_from([LinkKey(f"go.example/{number}") for number in range(8)])
VERSIONS = st.integers(0, 6)


def link(version: int, target: str = "https://t.example/") -> LinkRecord:
    return LinkRecord(version, Kind.ACTIVE, 1, target) if version else absent()


def cache_of(
    clock: Callable[[], float], *, entries: int = MAX_ENTRIES, size: int = MAX_BYTES
) -> LocalCache[object]:
    return LocalCache(
        max_entries=entries,
        max_bytes=size,
        ttl_s=TTL_S,
        negative_ttl_s=NEGATIVE_TTL_S,
        stale_s=STALE_S,
        refresh_ahead=0.75,
        prepare=lambda key, record, _: (record, (key, record), 0),
        clock=clock,
    )


class Machine(RuleBasedStateMachine):
    """The model: for each key the newest known version, and the record that was accepted last."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = cache_of(self.clock)
        self.seen: dict[LinkKey, int] = {}
        self.accepted: dict[LinkKey, tuple[LinkRecord, float]] = {}
        self.lost_at = 0.0

    @rule(key=KEYS, version=VERSIONS, length=st.integers(0, 3000), age=st.floats(0, 40))
    def put(self, key: LinkKey, version: int, length: int, age: float) -> None:
        record = link(version, "x" * length)
        read_at = self.clock() - age
        entry = self.cache.put(key, record, read_at=read_at)
        assert (entry is None) == (version < self.seen.get(key, 0))
        if entry is not None:
            assert entry.response == (key, record)
            self.seen[key] = version
            self.accepted[key] = (record, read_at)

    @rule(key=KEYS, version=VERSIONS)
    def invalidate(self, key: LinkKey, version: int) -> None:
        self.cache.invalidate(key, version)
        if version > self.seen.get(key, 0):
            self.seen[key] = version
            assert self.cache.get(key) is None
            assert self.cache.stale(key) is None

    @rule(key=KEYS, version=VERSIONS)
    def the_primary_went_back(self, key: LinkKey, version: int) -> None:
        record = link(version)
        assert self.cache.put(key, record, read_at=self.clock(), lower=True) is not None
        self.seen[key] = version
        self.accepted[key] = (record, self.clock())

    @rule(key=KEYS)
    def get(self, key: LinkKey) -> None:
        entry = self.cache.get(key)
        if entry is not None:
            record, read_at = self.accepted[key]
            assert entry.record is record
            assert entry.record.version >= self.seen[key]
            ttl = TTL_S if record.version else NEGATIVE_TTL_S
            assert self.clock() < read_at + ttl
            assert read_at >= self.lost_at

    @rule(key=KEYS)
    def stale(self, key: LinkKey) -> None:
        entry = self.cache.stale(key)
        if entry is not None:
            record, read_at = self.accepted[key]
            assert entry.record is record
            assert entry.record.version >= self.seen[key]
            ttl = TTL_S + STALE_S if record.version else NEGATIVE_TTL_S
            assert self.clock() < read_at + ttl

    @rule()
    def expire(self) -> None:
        self.clock.advance(0.001)
        self.cache.expire()
        self.lost_at = self.clock()
        assert not any(self.cache.get(key) for key in self.cache.entries)

    @rule(seconds=st.floats(0, 60))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def never_above_its_bounds(self) -> None:
        assert len(self.cache) <= MAX_ENTRIES
        assert self.cache.bytes <= MAX_BYTES
        assert self.cache.bytes == sum(entry.size for entry in self.cache.entries.values())

    @invariant()
    def the_queue_holds_each_entry_once(self) -> None:
        assert sorted(self.cache._queue) == sorted(self.cache.entries)

    @invariant()
    def never_below_a_floor(self) -> None:
        # The table has room for a floor of every key, so that none is dropped.
        for key, version in self.seen.items():
            assert self.cache.floor(key) == version


TestLaws = Machine.TestCase
TestLaws.settings = hypothesis.settings(max_examples=100, stateful_step_count=30)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def key(number: int) -> LinkKey:
    return LinkKey(f"go.example/{number}")


def test_a_hit_does_not_extend_the_ttl(clock):
    cache = cache_of(clock)
    cache.put(key(1), link(1), read_at=clock())
    for _ in range(29):
        clock.advance(1)
        assert cache.get(key(1)) is not None
    clock.advance(1)
    assert cache.get(key(1)) is None


def test_entries_that_were_hit_are_evicted_after_those_that_were_not(clock):
    cache = cache_of(clock, entries=10, size=10**6)
    for number in range(10):
        cache.put(key(number), link(1), read_at=clock())
    assert cache.get(key(0)) is not None
    for number in range(10, 15):
        cache.put(key(number), link(1), read_at=clock())
    assert cache.get(key(0)) is not None
    assert cache.get(key(1)) is None
    assert cache.evictions == 5


def test_an_eviction_skips_a_bounded_number_of_entries_that_were_hit(clock):
    cache = cache_of(clock, entries=1000, size=10**8)
    for number in range(1000):
        cache.put(key(number), link(1), read_at=clock())
        cache.get(key(number))
    cache.put(key(1000), link(1), read_at=clock())
    assert cache.get(key(SECOND_CHANCES)) is None
    assert sum(not entry.visited for entry in cache.entries.values()) == SECOND_CHANCES + 1


def test_an_older_version_of_an_evicted_link_is_refused(clock):
    cache = cache_of(clock, entries=1, size=10**6)
    cache.put(key(1), link(7), read_at=clock())
    cache.put(key(2), link(1), read_at=clock())
    assert cache.put(key(1), link(6), read_at=clock()) is None
    assert cache.put(key(1), link(7), read_at=clock()) is not None


def test_floors_are_bounded(clock):
    cache = cache_of(clock, entries=100, size=10**6)
    for number in range(10_000):
        cache.invalidate(key(number), 5)
    assert sum(cache.floor(key(number)) > 0 for number in range(10_000)) <= 224
    assert cache.floor(key(9_999)) == 5


def test_an_invalidated_entry_is_its_own_floor_and_releases_its_record(clock):
    cache = cache_of(clock, entries=2, size=10**6)
    cache.put(key(1), link(1, "x" * 5000), read_at=clock())
    before = cache.bytes
    assert cache.invalidate(key(1), 7)
    assert cache.bytes < before - 4900
    assert cache.put(key(1), link(6), read_at=clock()) is None
    for number in range(2, 5):
        cache.put(key(number), link(1), read_at=clock())
    assert cache.put(key(1), link(6), read_at=clock()) is None
    assert cache.put(key(1), link(7), read_at=clock()) is not None


def test_an_entry_that_was_looked_up_again_is_evicted_after_the_others(clock):
    cache = cache_of(clock, entries=10, size=10**6)
    for number in range(10):
        cache.put(key(number), link(1), read_at=clock())
    cache.put(key(0), link(2), read_at=clock())
    cache.put(key(10), link(1), read_at=clock())
    assert cache.get(key(0)) is not None
    assert cache.get(key(1)) is None


@hypothesis.given(age=st.floats(0, TTL_S * 0.7), since=st.floats(0, 1e7))
def test_the_ttl_of_an_entry_runs_from_its_read(age, since):
    clock = Clock(seconds=since + age)
    cache = cache_of(clock)
    entry = cache.put(key(1), link(1), read_at=since)
    assert entry is not None
    assert entry.fresh_until == since + TTL_S
    assert entry.stale_until == since + TTL_S + STALE_S
    assert entry.refresh_at == since + TTL_S * 0.75


def test_a_link_larger_than_the_cache_is_answered_but_not_kept(clock):
    cache = cache_of(clock)
    assert cache.put(key(1), link(1, "x" * MAX_BYTES), read_at=clock()) is not None
    assert len(cache) == 0
    assert cache.bytes == 0
    assert cache.floor(key(1)) == 1


def test_a_prolonged_entry_ends_with_its_stale_time(clock):
    cache = cache_of(clock)
    entry = cache.put(key(1), link(1), read_at=clock())
    assert entry is not None
    clock.advance(TTL_S + STALE_S - 0.5)
    assert cache.get(key(1)) is None
    cache.prolong(entry, 1.0)
    assert cache.get(key(1)) is entry
    clock.advance(0.5)
    assert cache.get(key(1)) is None
    assert cache.stale(key(1)) is None


@pytest.mark.parametrize("version", [0, 7])
def test_a_negative_entry_is_never_served_stale(clock, version):
    cache = cache_of(clock)
    cache.put(key(1), absent(version), read_at=clock())
    clock.advance(NEGATIVE_TTL_S)
    assert cache.get(key(1)) is None
    assert cache.stale(key(1)) is None


def test_after_lost_changes_entries_are_served_only_as_stale(clock):
    cache = cache_of(clock)
    cache.put(key(1), link(3), read_at=clock())
    cache.expire()
    assert cache.get(key(1)) is None
    assert cache.stale(key(1)) is not None
    assert cache.put(key(1), link(2), read_at=clock()) is None


def test_a_record_that_was_read_before_changes_were_lost_is_served_only_as_stale(clock):
    cache = cache_of(clock)
    read_at = clock()
    clock.advance(0.1)
    cache.expire()
    cache.put(key(1), link(3), read_at=read_at)
    assert cache.get(key(1)) is None
    assert cache.stale(key(1)) is not None
    cache.put(key(1), link(3), read_at=clock())
    assert cache.get(key(1)) is not None


def test_a_shorter_ttl_applies_to_all_entries_and_a_longer_ttl_only_to_new_ones():
    clock = Clock()
    cache = cache_of(clock)
    old, new = LinkKey("go.example/old"), LinkKey("go.example/new")
    cache.put(old, link(1), read_at=clock())
    cache.set_ttls(2.0, 1.0)
    clock.advance(2.5)
    assert cache.get(old) is None
    assert cache.stale(old) is not None
    cache.put(old, link(1), read_at=clock())
    cache.set_ttls(60.0, 1.0)
    cache.put(new, link(1), read_at=clock())
    clock.advance(2.5)
    assert cache.get(old) is None
    assert cache.get(new) is not None
