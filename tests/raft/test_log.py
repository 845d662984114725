import pytest

from multiraft.ids import Index, Term
from multiraft.raft import log as raft_log
from multiraft.raft.log import RaftLog
from multiraft.raft.messages import Entry
from multiraft.raft.ready import Ready, SnapshotMark
from tests.support.raft_disk import Disk, disk_with, entry
from tests.support.raft_replica import voters


def entries(*terms_and_indexes: tuple[int, int]) -> tuple[Entry, ...]:
    return tuple(entry(term, index) for term, index in terms_and_indexes)


def log_with(*terms: int, truncated: tuple[int, int] = (0, 0)) -> tuple[RaftLog, Disk]:
    disk = disk_with(voters(3), terms, truncated=truncated)
    return RaftLog(disk), disk


def write(log: RaftLog, disk: Disk) -> tuple[Entry, ...]:
    mark, taken = log.take_unwritten()
    assert mark is None
    disk.write_ready(Ready(entries=taken))
    return taken


def terms_of(log: RaftLog) -> list[Term | None]:
    return [log.term(Index(index)) for index in range(log.first_index - 1, log.last_index + 2)]


def test_a_restarted_log_is_what_storage_holds() -> None:
    log, _ = log_with(3, 3, 4, truncated=(10, 2))
    assert (log.first_index, log.last_index, log.last_term) == (11, 13, 4)
    assert log.durable_index == log.written_index == 13
    assert terms_of(log) == [2, 3, 3, 4, None]
    assert log.take_unwritten() == (None, ())


def test_appended_entries_are_taken_once_and_then_written() -> None:
    log, disk = log_with(1)
    log.append(entry(2, 2))
    log.append(entry(2, 3))
    assert write(log, disk) == entries((2, 2), (2, 3))
    assert log.take_unwritten() == (None, ())
    assert (log.written_index, log.durable_index) == (3, 1)


def test_a_gap_is_refused() -> None:
    log, _ = log_with(1)
    with pytest.raises(AssertionError, match="without a gap"):
        log.append(entry(1, 3))
    with pytest.raises(AssertionError, match="without a gap"):
        log.accept(entries((1, 3)), Index(0))


def test_accept_keeps_what_agrees_and_what_lies_behind_it() -> None:
    log, _ = log_with(1, 1, 2, 2)
    log.accept(entries((1, 2), (2, 3)), Index(0))
    assert log.last_index == 4
    assert log.take_unwritten() == (None, ())


def test_accept_replaces_from_the_first_conflict() -> None:
    log, disk = log_with(1, 1, 2, 2)
    log.accept(entries((1, 2), (3, 3)), Index(2))
    assert (log.last_index, log.last_term) == (3, 3)
    assert terms_of(log) == [0, 1, 1, 3, None]
    assert log.durable_index == 2
    assert write(log, disk) == entries((3, 3))


def test_accept_replaces_entries_that_were_never_written() -> None:
    log, disk = log_with(1)
    log.accept(entries((2, 2), (2, 3), (2, 4)), Index(0))
    log.accept(entries((3, 3)), Index(0))
    assert write(log, disk) == entries((2, 2), (3, 3))
    assert log._recent_bytes == len(b"2.2") + len(b"3.3")


def test_accept_never_overwrites_what_is_committed() -> None:
    log, _ = log_with(1, 1)
    with pytest.raises(AssertionError, match="never overwritten"):
        log.accept(entries((2, 2)), Index(2))


def test_a_sync_counts_only_for_the_entry_that_was_written() -> None:
    log, disk = log_with(1)
    log.accept(entries((2, 2), (2, 3)), Index(0))
    write(log, disk)
    log.accept(entries((3, 2), (3, 3)), Index(0))
    log.synced(Term(2), Index(3))
    assert log.durable_index == 1
    log.synced(Term(3), Index(3))
    assert log.durable_index == 1, "not written yet"
    write(log, disk)
    log.synced(Term(3), Index(3))
    assert log.durable_index == 3
    log.synced(Term(3), Index(2))
    assert log.durable_index == 3


def test_slice_comes_from_memory_bounded_by_bytes_but_never_empty() -> None:
    log, _ = log_with(1)
    for index in (2, 3, 4):
        log.append(entry(1, index, b"four"))
    low, high = Index(2), Index(5)
    assert log.slice(low, high, 100) == (tuple(entry(1, i, b"four") for i in (2, 3, 4)), 12)
    assert log.slice(low, high, 8) == (tuple(entry(1, i, b"four") for i in (2, 3)), 8)
    assert log.slice(low, high, 1) == ((entry(1, 2, b"four"),), 4)
    assert log.slice(low, Index(3), 1) == ((entry(1, 2, b"four"),), 4)


def test_entries_that_are_to_be_written_at_once_follow_written_ones() -> None:
    log, _ = log_with(1)
    log.extend_written(entries((1, 2), (1, 3)))
    assert (log.last_index, log.written_index, log.durable_index) == (3, 3, 1)
    assert log.take_unwritten() == (None, ())
    log.append(entry(1, 4))
    with pytest.raises(AssertionError, match="taken to be written"):
        log.extend_written(entries((1, 5)))


def test_slice_of_older_entries_comes_from_storage_up_to_what_memory_holds() -> None:
    log, _ = log_with(1, 1)
    log.append(entry(2, 3))
    assert log.slice(Index(1), Index(4), 100) == (entries((1, 1), (1, 2)), 6)


def test_memory_serves_what_storage_has_truncated() -> None:
    log, disk = log_with(1)
    log.append(entry(1, 2))
    log.append(entry(1, 3))
    disk.write_ready(
        Ready(entries=log.take_unwritten()[1], committed=entries((1, 1), (1, 2), (1, 3)))
    )
    disk.truncate(Index(3))
    assert log.first_index == 4
    assert log.slice(Index(2), Index(4), 100)[0] == entries((1, 2), (1, 3))
    with pytest.raises(AssertionError, match="not truncated"):
        log.slice(Index(1), Index(4), 100)


def test_trim_drops_what_is_written_applied_and_not_needed() -> None:
    log, disk = log_with(1)
    log.append(entry(1, 2))
    log.append(entry(1, 3))
    write(log, disk)
    log.append(entry(1, 4))
    log.trim(needed_after=Index(2), applied=Index(3))
    assert log._recent_bytes == 2 * len(b"1.3")
    log.trim(needed_after=Index(4), applied=Index(4))
    assert log._recent_bytes == len(b"1.4"), "what is not written stays"
    assert terms_of(log) == [0, 1, 1, 1, 1, None]


def test_too_much_memory_is_given_back_even_if_a_follower_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raft_log, "RECENT_BYTES_MAX", 5)
    log, disk = log_with(1)
    log.append(entry(1, 2))
    log.append(entry(1, 3))
    write(log, disk)
    log.trim(needed_after=Index(0), applied=Index(3))
    assert log._recent_bytes == 0
    assert log.slice(Index(2), Index(4), 100)[0] == entries((1, 2), (1, 3))


def test_restore_starts_over_behind_the_mark() -> None:
    log, disk = log_with(1, 1)
    log.append(entry(2, 3))
    mark = SnapshotMark(Index(9), Term(5), voters(3))
    log.restore(mark)
    assert (log.first_index, log.last_index, log.last_term) == (10, 9, 5)
    assert log.durable_index == 0
    log.accept(entries((6, 10)), Index(9))
    assert terms_of(log) == [5, 6, None]
    assert log.term(Index(8)) is None
    taken, replacing = log.take_unwritten()
    assert taken == mark
    disk.write_ready(Ready(snapshot=taken, entries=replacing))
    assert log.take_unwritten() == (None, ())
    assert log.first_index == 10
    log.synced(Term(5), Index(9))
    assert log.durable_index == 9


@pytest.mark.parametrize(
    ("last", "up_to_date"),
    [((2, 3), True), ((3, 3), True), ((1, 3), False), ((1, 4), True), ((9, 2), False)],
)
def test_the_better_log_ends_in_a_higher_term_or_is_longer(
    last: tuple[int, int], up_to_date: bool
) -> None:
    log, _ = log_with(1, 3)
    assert log.is_up_to_date(Index(last[0]), Term(last[1])) is up_to_date


def test_conflicting_terms_are_skipped_whole() -> None:
    log, _ = log_with(2, 2, 4, 4, 4, truncated=(10, 1))
    assert log.last_with_term_at_most(Index(15), Term(3)) == (12, 2)
    assert log.last_with_term_at_most(Index(99), Term(4)) == (15, 4)
    assert log.last_with_term_at_most(Index(11), Term(1)) == (10, 1)
    assert log.last_with_term_at_most(Index(12), Term(0)) == (0, 0)
