import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.concurrency.recent_writes import RecentWrites, RecentWritesStatus
from multiraft.ids import Timestamp

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def at(number: int) -> Timestamp:
    return Timestamp(number)


def test_request_issued_since_the_start_is_known_to_be_new() -> None:
    recent = RecentWrites(10, at(100))
    assert recent.knows_absence(A, at(100))
    assert not recent.knows_absence(A, at(99))


def test_applied_write_is_not_absent() -> None:
    recent = RecentWrites(10, at(100))
    recent.note(A, at(120))
    assert not recent.knows_absence(A, at(110))
    assert recent.knows_absence(B, at(110))


def test_forgetting_makes_older_requests_unsure() -> None:
    recent = RecentWrites(2, at(100))
    for write_id, timestamp in ((A, 120), (B, 130), (C, 140)):
        recent.note(write_id, at(timestamp))
    assert recent.status() == RecentWritesStatus(writes=2, complete_since=at(120))
    # The forgotten write was made at 120, so its request was issued before that.
    assert not recent.knows_absence(A, at(119))
    assert recent.knows_absence(A, at(120))
    assert not recent.knows_absence(B, at(125))


def test_complete_since_never_falls() -> None:
    # Commands on different keys may be applied in another order than their timestamps.
    recent = RecentWrites(1, at(100))
    for write_id, timestamp in ((A, 150), (B, 120), (C, 130)):
        recent.note(write_id, at(timestamp))
    assert recent.status() == RecentWritesStatus(writes=1, complete_since=at(150))


def test_write_noted_twice_counts_with_its_latest_timestamp() -> None:
    recent = RecentWrites(1, at(100))
    recent.note(A, at(150))
    recent.note(A, at(120))
    recent.note(B, at(160))
    assert recent.status() == RecentWritesStatus(writes=1, complete_since=at(150))


def test_remembered_write_is_found_without_a_search() -> None:
    recent = RecentWrites(1, at(100))
    recent.note(A, at(120))
    assert recent.timestamp_of(A) == 120
    assert recent.timestamp_of(B) is None
    recent.note(B, at(130))
    assert recent.timestamp_of(A) is None


def test_reset_forgets_everything() -> None:
    recent = RecentWrites(10, at(100))
    recent.note(A, at(120))
    recent.reset(at(200))
    assert recent.status() == RecentWritesStatus(writes=0, complete_since=at(200))
    assert not recent.knows_absence(A, at(110))


def test_room_for_nothing_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="remembers nothing"):
        RecentWrites(0, at(1))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(101, 130)), max_size=40),
    st.integers(1, 8),
    st.integers(90, 130),
)
def test_absence_is_claimed_only_of_writes_that_left_nothing(
    script: list[tuple[int, int]], maximum: int, issued_at: int
) -> None:
    recent = RecentWrites(maximum, at(100))
    applied: dict[int, int] = {}
    for number, timestamp in script:
        recent.note(b"%16d" % number, at(timestamp))
        applied[number] = max(applied.get(number, 0), timestamp)
        assert recent.status().writes <= maximum
    for number in range(10):
        left_a_trace = applied.get(number, 0) > issued_at
        assert not (recent.knows_absence(b"%16d" % number, at(issued_at)) and left_a_trace)
