import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency.timestamp_cache import (
    SHARED,
    TimestampCache,
    TimestampCacheStatus,
    later,
)
from multiraft.ids import Timestamp

ONE, TWO = b"1" * 16, b"2" * 16


def at(number: int) -> Timestamp:
    return Timestamp(number)


def cache(low_water: int = 5, entries_max: int = 1_000) -> TimestampCache:
    return TimestampCache(at(low_water), entries_max)


def test_unread_key_was_read_at_low_water() -> None:
    assert cache().max_read(b"k") == (5, SHARED)
    assert cache().write_floor(b"k", ONE) == 6


def test_write_goes_above_the_read_of_another() -> None:
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    assert reads.write_floor(b"k", TWO) == 11
    assert reads.write_floor(b"k") == 11
    assert reads.write_floor(b"j", TWO) == 6


def test_write_may_take_the_timestamp_of_its_own_read() -> None:
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    reads.add_span(b"m", b"p", at(20), ONE)
    assert reads.write_floor(b"k", ONE) == 10
    assert reads.write_floor(b"n", ONE) == 20


def test_no_key_was_read_later_than_the_latest_read_of_all() -> None:
    reads = cache(entries_max=2)
    assert reads.latest == 5
    reads.add_point(b"k", at(20))
    assert reads.latest == 20
    reads.add_span(b"m", b"p", at(30))
    assert reads.latest == 30
    reads.add_point(b"a", at(10))
    reads.add_point(b"b", at(11))
    assert reads.latest == 30, "also of those that are remembered one by one no more"
    reads.raise_low_water(at(40))
    assert reads.latest == 40


def test_equal_timestamps_of_two_readers_are_shared() -> None:
    # Rule S11: T1 and T2 both at 10, both read k; neither may write it at 10.
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    reads.add_point(b"k", at(10), TWO)
    assert reads.max_read(b"k") == (10, SHARED)
    assert reads.write_floor(b"k", ONE) == 11


def test_write_skew_at_equal_timestamps_is_prevented() -> None:
    """T11: neither may write at the time at which the other has read."""
    # Rule S11's schedule: T1 and T2 at 100; T1 reads x, T2 reads y; T2 writes x, T1 writes y.
    reads = cache()
    reads.add_point(b"x", at(100), ONE)
    reads.add_point(b"y", at(100), TWO)
    assert reads.write_floor(b"x", TWO) == 101
    assert reads.write_floor(b"y", ONE) == 101


def test_point_and_span_at_equal_timestamps_are_shared() -> None:
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    reads.add_span(b"a", b"z", at(10), TWO)
    assert reads.max_read(b"k") == (10, SHARED)
    assert reads.max_read(b"j") == (10, TWO)


def test_reads_without_transaction_own_nothing() -> None:
    reads = cache()
    reads.add_point(b"k", at(10))
    assert reads.write_floor(b"k") == 11


def test_lower_read_changes_nothing() -> None:
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    reads.add_point(b"k", at(9), TWO)
    assert reads.max_read(b"k") == (10, ONE)


def test_read_at_low_water_is_everybodys() -> None:
    reads = cache(low_water=10)
    reads.add_point(b"k", at(10), ONE)
    assert reads.write_floor(b"k", ONE) == 11


def test_low_water_covers_what_was_read_below_it_and_never_falls() -> None:
    reads = cache()
    reads.add_point(b"k", at(10), ONE)
    reads.raise_low_water(at(10))
    assert reads.max_read(b"k") == (10, SHARED)
    reads.raise_low_water(at(3))
    assert reads.low_water == 10


def test_empty_span_reads_nothing() -> None:
    reads = cache()
    reads.add_span(b"k", b"k", at(10))
    reads.add_span(b"m", b"k", at(10))
    assert reads.status() == TimestampCacheStatus(low_water=at(5), points=0, span_pieces=0)


def test_scans_of_the_same_span_do_not_add_up() -> None:
    reads = cache()
    for number in range(100):
        reads.add_span(b"a", b"z", at(10 + number))
        reads.add_span(b"f", b"g", at(10 + number))
    assert reads.status().span_pieces == 2


def test_forgetting_raises_low_water_to_what_was_forgotten() -> None:
    reads = cache(low_water=5, entries_max=4)
    for number, key in enumerate((b"a", b"b", b"c"), start=10):
        reads.add_point(key, at(number), ONE)
    assert reads.low_water == 5, "two generations of two fit"
    for number, key in enumerate((b"d", b"e", b"f"), start=20):
        reads.add_point(key, at(number), ONE)
    assert reads.low_water == 12
    assert reads.max_read(b"a") == (12, SHARED)
    assert reads.max_read(b"f") == (22, ONE)


@pytest.mark.parametrize("entries_max", [2, 3, 10, 100])
def test_number_of_entries_is_bounded(entries_max: int) -> None:
    reads = cache(entries_max=entries_max)
    for number in range(1_000):
        reads.add_point(b"%d" % (number * 7 % 331), at(10 + number))
        if number % 3 == 0:
            reads.add_span(b"%d" % number, b"%d0" % number, at(10 + number))
        status = reads.status()
        # Each generation is put away by the read that takes it over its half: at most a span more.
        assert status.points + status.span_pieces <= entries_max + 6


def test_later_does_not_depend_on_the_order() -> None:
    reads = [(at(1), ONE), (at(2), ONE), (at(2), TWO), (at(2), SHARED)]
    for one in reads:
        for other in reads:
            assert later(one, other) == later(other, one)
    assert later(reads[1], reads[2]) == (2, SHARED)
    assert later(reads[1], reads[1]) == (2, ONE)


some_keys = st.sampled_from([b"", b"a", b"a\x00", b"b", b"c", b"d"])
some_owners = st.sampled_from([ONE, TWO, SHARED])
some_reads = st.lists(
    st.tuples(some_keys, st.one_of(st.none(), some_keys), st.integers(1, 20), some_owners),
    max_size=30,
)


def exact(script: list[tuple[bytes, bytes | None, int, bytes]], key: bytes) -> tuple[int, bytes]:
    """Return the latest read of `key`: what a cache without a bound says."""
    best = (at(5), SHARED)
    for start, end, number, owner in script:
        if (key == start) if end is None else (start <= key < end):
            best = later(best, (at(number), owner))
    return best


def add(reads: TimestampCache, step: tuple[bytes, bytes | None, int, bytes]) -> None:
    start, end, number, owner = step
    if end is None:
        reads.add_point(start, at(number), owner)
    else:
        reads.add_span(start, end, at(number), owner)


@settings(max_examples=300)
@given(some_reads)
def test_cache_within_its_bound_is_exact(
    script: list[tuple[bytes, bytes | None, int, bytes]],
) -> None:
    reads = cache()
    for step in script:
        add(reads, step)
    for key in (b"", b"a", b"a\x00", b"aa", b"b", b"c", b"d", b"e"):
        assert reads.max_read(key) == exact(script, key)


@settings(max_examples=300)
@given(some_reads, st.integers(2, 9))
def test_bounded_cache_never_allows_less_than_the_exact_one(
    script: list[tuple[bytes, bytes | None, int, bytes]], entries_max: int
) -> None:
    reads = cache(entries_max=entries_max)
    for step in script:
        add(reads, step)
    for key in (b"", b"a", b"a\x00", b"aa", b"b", b"c", b"d", b"e"):
        exact_timestamp, exact_owner = exact(script, key)
        for owner in (ONE, TWO, SHARED):
            own = owner == exact_owner and owner != SHARED
            assert reads.write_floor(key, owner) >= exact_timestamp + (not own)
