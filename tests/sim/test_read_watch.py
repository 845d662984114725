"""Answers that do not hold for their timestamp are found, on whichever side the mistake is."""

import pytest

from multiraft import errors
from multiraft.ids import RangeId, Timestamp
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    Scan,
    ScanResult,
)
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE
from multiraft.sim.read_watch import ReadWatch
from multiraft.storage import layout

RANGE = RangeId(2)


class Seen:
    """A watch, what it reports, and a store that answers as it is told."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.watch = ReadWatch(lambda _, problem: self.problems.append(str(problem)))

    def covers(self, range_id: RangeId, timestamp: Timestamp) -> bool:
        return timestamp < 100

    def wrote(self, key: bytes, timestamp: int, kind: int = VALUE) -> None:
        row = layout.version_key(key, Timestamp(timestamp)), bytes([kind])
        self.watch.wrote([row])

    def answered(self, request: BatchRequest, reply: BatchReply) -> None:
        told: list[BatchReply] = []
        submit = self.watch.watch("n1", self.covers, lambda _, answer: answer(reply))
        submit(request, told.append)
        assert told == [reply]

    def got(self, key: bytes, at: int, found: int) -> None:
        result = GetResult(b"v" if found else None, Timestamp(found))
        self.answered(BatchRequest(RANGE, (Get(key),)), BatchReply((result,), Timestamp(at)))

    def scanned(self, scan: Scan, at: int, resume: bytes | None = None) -> None:
        result = ScanResult((), resume)
        self.answered(BatchRequest(RANGE, (scan,)), BatchReply((result,), Timestamp(at)))


def test_honest_reads_are_no_problem() -> None:
    seen = Seen()
    seen.got(b"k", 5, 0)
    for timestamp in (10, 20):
        seen.wrote(b"k", timestamp)
        seen.wrote(b"k", timestamp)  # Another replica applies it, too.
    seen.got(b"k", 15, 10)
    seen.got(b"k", 25, 20)
    seen.wrote(b"k", 30, TOMBSTONE)
    seen.got(b"k", 35, 0)
    seen.wrote(b"k", 36)
    assert not seen.problems


def test_a_version_that_was_there_and_is_missed() -> None:
    seen = Seen()
    seen.wrote(b"k", 10)
    seen.wrote(b"k", 20)
    seen.got(b"k", 25, 10)
    assert "read b'k' at 25 as it was at 10, though a version of 20" in seen.problems[0]


@pytest.mark.parametrize("kind", [VALUE, TOMBSTONE])
def test_a_version_that_comes_too_late(kind: int) -> None:
    seen = Seen()
    seen.wrote(b"k", 10)
    seen.got(b"k", 25, 10)
    seen.wrote(b"k", 25, kind)
    assert "a version of b'k' at 25 came after the key had been read at 25" in seen.problems[0]


def test_a_read_without_a_lease() -> None:
    seen = Seen()
    seen.got(b"k", 99, 0)
    assert not seen.problems
    seen.got(b"k", 100, 0)
    assert "n1 answers a read at 100 without a lease" in seen.problems[0]


def test_outcomes_and_refusals_are_nothing_that_is_read() -> None:
    seen = Seen()
    seen.got(b"k", 25, 0)
    seen.wrote(b"k", 20, OUTCOME)
    refused = BatchReply(
        (),
        Timestamp(9),
        error=errors.to_wire(errors.NotLeaseholderError(range_id=RANGE, leaseholder=None)),
    )
    seen.answered(BatchRequest(RANGE, (Get(b"k"),)), refused)
    assert not seen.problems


@pytest.mark.parametrize(
    ("resume", "reverse", "spoken_for"),
    [(None, False, b"adm"), (b"f", False, b"ad"), (b"f", True, b"m")],
)
def test_a_version_that_comes_too_late_for_a_page_of_a_scan(
    resume: bytes | None, reverse: bool, spoken_for: bytes
) -> None:
    for key in (b"a", b"d", b"m", b"z"):
        seen = Seen()
        seen.scanned(Scan(b"a", b"n", reverse), 25, resume)
        seen.wrote(key, 26)
        assert not seen.problems
        seen.wrote(key, 24)
        assert bool(seen.problems) is (key in spoken_for)


def read_and_deleted() -> Seen:
    """Return what has seen a key that was read at 25 and deleted at 30."""
    seen = Seen()
    seen.wrote(b"k", 10)
    seen.got(b"k", 25, 10)
    seen.wrote(b"k", 30, TOMBSTONE)
    return seen


def end_rounds(seen: Seen, *ends: int, stored: bytes = b"") -> None:
    for end in ends:
        seen.watch.forget(Timestamp(end), lambda key: key == stored)


def test_a_deleted_key_is_forgotten_when_it_has_been_gone_for_a_round() -> None:
    seen = read_and_deleted()
    end_rounds(seen, 29, 29)
    assert seen.watch.remembered == 3, "it was deleted since"
    end_rounds(seen, 40, 40, stored=b"k")
    assert seen.watch.remembered == 3, "a disk has it"
    end_rounds(seen, 40)
    assert seen.watch.remembered == 3, "a crash may bring it back"
    end_rounds(seen, 50)
    assert seen.watch.remembered == 0
    seen.wrote(b"k", 51)
    assert not seen.problems


def test_a_version_of_a_forgotten_key_that_comes_too_late() -> None:
    seen = read_and_deleted()
    end_rounds(seen, 40, 50)
    assert seen.watch.remembered == 0
    seen.wrote(b"k", 24)
    assert "a version of b'k' at 24 came after the key had been read at 50" in seen.problems[0]


def test_a_key_that_was_never_there_is_forgotten_and_counts_as_read() -> None:
    seen = Seen()
    seen.got(b"k", 25, 0)
    end_rounds(seen, 24, 24)
    assert seen.watch.remembered == 1
    end_rounds(seen, 40, 50)
    assert seen.watch.remembered == 0
    seen.wrote(b"k", 25)
    assert seen.problems


def test_a_key_that_nobody_deleted_is_missed_even_when_it_is_gone() -> None:
    seen = Seen()
    seen.wrote(b"k", 10)
    end_rounds(seen, 40, 50, 60)
    seen.got(b"k", 70, 0)
    assert "read b'k' at 70 as it was at 0, though a version of 10" in seen.problems[0]


def test_an_old_version_of_a_key_that_is_remembered_is_no_news() -> None:
    seen = read_and_deleted()
    end_rounds(seen, 40, 50, 60, stored=b"k")
    seen.wrote(b"k", 10)  # A replica that comes late is sent it in a snapshot.
    assert not seen.problems
    seen.wrote(b"k", 24)
    assert "had been read at 25" in seen.problems[0]


def test_what_came_with_writes_needs_no_lease_when_it_is_answered() -> None:
    seen = Seen()
    request = BatchRequest(RANGE, (Get(b"k"), Increment(b"other", 1)))
    results = (GetResult(None, Timestamp(0)), IncrementResult(1))
    seen.answered(request, BatchReply(results, Timestamp(100)))
    assert not seen.problems
    seen.wrote(b"k", 100)
    assert "came after the key had been read at 100" in seen.problems[0]


def test_a_read_of_what_its_own_part_writes_may_stand_before_that() -> None:
    seen = Seen()
    seen.wrote(b"k", 20)
    request = BatchRequest(RANGE, (Get(b"k"), Increment(b"k", 1)))
    results = (GetResult(None, Timestamp(0)), IncrementResult(1))
    seen.answered(request, BatchReply(results, Timestamp(20)))
    assert not seen.problems
